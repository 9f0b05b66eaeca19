"""What scores see images by: networks that turn each into a vector of features, and some into odds of classes."""

from ganlab.extractors.extractor import Extractor, Features
from ganlab.extractors.fixed import Coordinates
from ganlab.extractors.registry import extractor_of, make_extractor

__all__ = ["Coordinates", "Extractor", "Features", "extractor_of", "make_extractor"]
