"""The handwritten digits shipped with scikit-learn."""

from __future__ import annotations

import torch

from ganlab.data.dataset import Examples
from ganlab.data.mnist import ALL_DIGITS, Digit, check_digits, select_digits


class Digits:
    """1,797 images of handwritten digits, 8x8 pixels with 17 grey levels (Alpaydin and Kaynak, UCI, 1998).

    Args:
        digits: digits to keep, for example [3, 5].
    """

    name = "digits"
    shape = (1, 8, 8)
    num_examples = None

    def __init__(self, digits: list[Digit] = ALL_DIGITS) -> None:
        self.digits = digits
        self.classes = tuple(map(str, digits))

    def labelled(self) -> Digits:
        return Digits()

    def check(self) -> None:
        check_digits(self.digits)

    def load(self) -> Examples:
        from sklearn.datasets import load_digits  # slow to import; config errors should not wait for it

        bunch = load_digits()
        levels = torch.tensor(bunch.images, dtype=torch.float32)[:, None]
        data = (levels * (255 / 16)).round().to(torch.uint8)
        return select_digits(self.digits, data, torch.tensor(bunch.target), source="scikit-learn")
