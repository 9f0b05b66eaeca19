"""What scores see images by: networks that turn each into a vector of features, and some into odds of classes."""

from ganlab.extractors.extractor import Extractor, Features
from ganlab.extractors.registry import make_extractor

__all__ = ["Extractor", "Features", "make_extractor"]
