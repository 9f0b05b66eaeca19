"""The sizes of an image's feature maps, and what stands at one of them."""

from __future__ import annotations

from ganlab.models import ShapeError

Size = tuple[int, int]


def halved(shape: tuple[int, ...], smallest: int = 4) -> list[Size]:
    """The size of an image [C, H, W], then its halves while they are whole and no side is below `smallest`."""
    if len(shape) != 3:
        return []
    height, width = shape[1:]
    sizes = [(height, width)]
    while height % 2 == 0 and width % 2 == 0 and min(height, width) >= 2 * smallest:
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


def halved_to_about_4(shape: tuple[int, ...], network: str) -> list[Size]:
    """The sizes of an image that end at 4 to 7 pixels, for networks that see all of the last one at once.

    Raises:
        ShapeError: the halves end before that, or there are none.
    """
    sizes = halved(shape)
    if len(sizes) < 2 or min(sizes[-1]) > 7:
        raise ShapeError(
            f"{network} is for images [C, H, W] whose smaller side is 4, 5, 6 or 7 pixels doubled once or more, "
            "and whose larger side can be halved as often: 8, 28, 32, 48, 64, 96, 128"
        )
    return sizes


def check_attention(attention: int | None, sizes: list[Size]) -> None:
    """Refuse attention at a height that no feature map has.

    Raises:
        ShapeError: with the heights that there are.
    """
    heights = [height for height, _ in sizes]
    if attention is not None and attention not in heights:
        raise ShapeError(f"attention={attention}: must be the height of a feature map, {', '.join(map(str, heights))}")
