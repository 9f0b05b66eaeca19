"""Feature extractors: networks that map images to features and, for classifiers, to class probabilities."""

from ganlab.metrics.extractors.extractor import Extractor, Features
from ganlab.metrics.extractors.fixed import Coordinates
from ganlab.metrics.extractors.registry import extractor_of, make_extractor

__all__ = ["Coordinates", "Extractor", "Features", "extractor_of", "make_extractor"]
