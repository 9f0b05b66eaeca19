"""Sizes of the feature maps of convolutional networks."""

from __future__ import annotations

from ganlab.models import ShapeError

Size = tuple[int, int]


def halved(shape: tuple[int, ...], smallest: int = 4) -> list[Size]:
    """Return the size of an image [C, H, W], halved repeatedly while sides are even and stay at least `smallest`."""
    if len(shape) != 3:
        return []
    height, width = shape[1:]
    sizes = [(height, width)]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * smallest:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def halved_to_about_4(shape: tuple[int, ...], network: str) -> list[Size]:
    """Return the sizes of an image, halved until the smaller side has 4 to 7 pixels.

    Raises:
        ShapeError: the sides cannot be halved that often, or not at all.
    """
    sizes = halved(shape)
    if len(sizes) < 2 or min(sizes[-1]) > 7:
        raise ShapeError(
            f"{network} is for images [C, H, W] whose sides can be halved until the smaller one has 4 to 7 pixels, "
            "for example 8, 28, 32, 48, 64, 96 or 128"
        )
    return sizes


def check_attention(attention: int | None, sizes: list[Size]) -> None:
    """Refuse attention at a height that no feature map has.

    Raises:
        ShapeError: lists the available heights.
    """
    heights = [height for height, _ in sizes]
    if attention is not None and attention not in heights:
        raise ShapeError(f"attention={attention}: must be the height of a feature map: {', '.join(map(str, heights))}")
