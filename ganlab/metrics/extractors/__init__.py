"""What scores see images by: networks that turn each into a vector of features, and some into odds of classes."""

from ganlab.metrics.extractors.extractor import Extractor, Features
from ganlab.metrics.extractors.fixed import Coordinates
from ganlab.metrics.extractors.registry import extractor_of, make_extractor

__all__ = ["Coordinates", "Extractor", "Features", "extractor_of", "make_extractor"]
