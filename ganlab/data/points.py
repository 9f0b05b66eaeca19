"""Points in the plane."""

from __future__ import annotations

import torch
from sklearn.datasets import make_circles

from ganlab.data.dataset import Examples
from ganlab.ranges import Count


class Circle:
    """Evenly spaced points on a circle about the origin: the inner one of scikit-learn's `make_circles`."""

    name = "circle"
    shape = (2,)
    classes = ()
    radius = 0.8

    def __init__(self, num_examples: Count = 1000) -> None:
        self.num_examples = num_examples

    def check(self) -> None:
        pass

    def load(self) -> Examples:
        points, circle = make_circles((0, self.num_examples), noise=0.0, factor=self.radius, shuffle=False)
        data = torch.tensor(points[circle == 1], dtype=torch.float32)
        return Examples(data, torch.zeros(len(data), dtype=torch.int64), source="scikit-learn")
