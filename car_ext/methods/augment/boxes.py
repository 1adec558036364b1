"""Rectangles inside an image."""

import torch


def clipped_box(
    height: int, width: int, box_height: int, box_width: int, generator: torch.Generator | None = None
) -> tuple[slice, slice]:
    """Rows and columns of a box about a pixel drawn uniformly from the image, cut off at the image's border.

    The box reaches `box_height // 2` rows up from the pixel and as many down, likewise in width: an odd side loses
    one pixel, as in the published code of both Cutout and CutMix.

    Args:
        height, width: of the image, in pixels.
        box_height, box_width: before it is cut off, in pixels.
        generator: of the CPU; torch's default generator where None.
    """
    y, x = (int(torch.randint(side, (), generator=generator)) for side in (height, width))
    up, left = box_height // 2, box_width // 2
    return slice(max(y - up, 0), min(y + up, height)), slice(max(x - left, 0), min(x + left, width))
