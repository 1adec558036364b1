"""Where the pixels of an image come from: crops, mirroring, affine maps, of a batch whose images differ in them.

Images are uint8 (N, H, W, C) on any device; what differs from image to image is a NumPy array (N, ...). Everything is
integer arithmetic, so that a pixel does not depend on the device or on the other images. kornia and torchvision either
take one set of parameters a batch or compute in floating point over whole batches.
"""

import numpy as np
import torch
from torch import Tensor

_ONE = 16  # bits of the fraction of a coordinate, as in Pillow's transform
_PART = 11  # bits of a weight between two pixels: two of them and a byte fit into 31
_IN_CACHE = 2**17  # bytes of images that a CPU resizes at a time, so that what comes between stays in its cache
_TAP = 22  # bits of a weight in resizing, as in Pillow's


def on(device: torch.device, values: np.ndarray) -> Tensor:
    """An array as a tensor there."""
    return torch.from_numpy(np.ascontiguousarray(values)).to(device, non_blocking=True)


def cropped(images: Tensor, top: np.ndarray, left: np.ndarray, side: int, margin: int) -> Tensor:
    """Squares (N, side, side, C) at `top`, `left` (N,) of the images padded by `margin` pixels of black."""
    number, height, width, channels = images.shape
    high, wide = height + 2 * margin, width + 2 * margin
    padded = images.new_zeros(number, high, wide, channels)
    padded[:, margin : margin + height, margin : margin + width] = images
    rows = np.arange(number)[:, None] * high + top[:, None] + np.arange(side)
    starts = (rows * wide + left[:, None]) * channels
    # Every run of a row's length as a row of its own, wherever it begins: whole rows are copied, not single pixels.
    runs = padded.view(-1).as_strided((padded.numel() - side * channels + 1, side * channels), (1, 1))
    return runs.index_select(0, on(images.device, starts.reshape(-1))).view(number, side, side, channels)


def mirrored(images: Tensor) -> Tensor:
    """Left and right exchanged; in the order of axes for which PyTorch has a fast path."""
    return images.permute(0, 3, 1, 2).flip(3).permute(0, 2, 3, 1)


def resized(images: Tensor, boxes: np.ndarray, side: int) -> Tensor:
    """Boxes of the images, bilinear to (N, side, side, C), smoothed where they shrink; Pillow's crop and resize.

    Pillow may go through the rows of a tall box before its columns, and is then up to a grey level away.

    Args:
        images: see above.
        boxes: (N, 4) int: top, left, height, width; inside the image.
        side: in pixels.
    """
    number, height, width, channels = images.shape
    few = max(1, _IN_CACHE // (height * width * channels))
    if images.device.type == "cpu" and number > few:
        return torch.cat([resized(images[i : i + few], boxes[i : i + few], side) for i in range(0, number, few)])
    top, left, tall, broad = boxes.T
    taken, weights = _taps(left, broad, side)
    # A channel of a column is a line, for whole lines are gathered fastest.
    taken = taken[:, :, None] * channels + np.arange(channels)[:, None]
    taken, weights = taken.reshape(number, side * channels, -1), weights.repeat(channels, axis=1)
    columns = images.reshape(number, height, width * channels).transpose(1, 2).contiguous()
    rows = _resampled(columns, taken, weights).transpose(1, 2).contiguous()
    return _resampled(rows, *_taps(top, tall, side)).view(number, side, side, channels)


def _resampled(lines: Tensor, taken: np.ndarray, weights: np.ndarray) -> Tensor:
    """Weighted sums (N, M, B) of the lines (N, L, B), uint8: those `taken`, with `weights`, both (N, M, T)."""
    number, count, _ = lines.shape
    taken = taken + np.arange(0, number * count, count)[:, None, None]
    every, total = lines.flatten(0, 1), None
    for tap in range(taken.shape[2]):
        index = on(lines.device, taken[:, :, tap].reshape(-1))
        seen = every.index_select(0, index).view(number, taken.shape[1], -1).int()
        seen *= on(lines.device, weights[:, :, None, tap])
        total = seen if total is None else total.add_(seen)
    assert total is not None
    return _byte(total, _TAP)


def _taps(start: np.ndarray, length: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Which pixels, and with which weight, make up each of `side` that `length` (N,) pixels from `start` on become.

    Returns:
        indices (N, side, T) int64 and weights (N, side, T) int32 of `_TAP` bits: a triangle as wide as two of the
        smaller pixels to either side.
    """
    scale = (length / side)[:, None]
    wide = np.maximum(scale, 1.0)
    middle = (np.arange(side) + 0.5) * scale
    first = np.maximum((middle - wide + 0.5).astype(np.int64), 0)
    last = np.minimum((middle + wide + 0.5).astype(np.int64), length[:, None])
    at = first[:, :, None] + np.arange(int((last - first).max()))
    weights = np.maximum(1 - np.abs((at - middle[:, :, None] + 0.5) / wide[:, :, None]), 0)
    weights *= at < last[:, :, None]
    weights /= weights.sum(axis=2, keepdims=True)
    inside = np.minimum(at, length[:, None, None] - 1)
    return inside + start[:, None, None], (weights * 2**_TAP + 0.5).astype(np.int32)


def _byte(total: Tensor, bits: int) -> Tensor:
    """Fixed-point numbers rounded to bytes."""
    return total.add_(1 << (bits - 1)).bitwise_right_shift_(bits).clamp_(0, 255).to(torch.uint8)


def affine(images: Tensor, maps: np.ndarray, fill: int, smooth: bool = False) -> Tensor:
    """The images seen through affine maps, as Pillow's `transform`.

    Args:
        images: see above.
        maps: (N, 6) float64, a to f: the pixel at (x, y) comes from (a x + b y + c, d x + e y + f), where the middle of
            the first is (0.5, 0.5).
        fill: where that is outside.
        smooth: bilinear in place of the nearest pixel.
    """
    _, height, width, _ = images.shape
    device = images.device
    maps = maps.copy()
    maps[:, 2] += (maps[:, 0] + maps[:, 1]) / 2
    maps[:, 5] += (maps[:, 3] + maps[:, 4]) / 2
    fixed = on(device, np.floor(maps * 2**_ONE + 0.5).astype(np.int32))[:, :, None]
    rows, columns = torch.arange(height, device=device).int(), torch.arange(width, device=device).int()
    x, y = (
        (fixed[:, k] * columns + fixed[:, k + 2])[:, None, :] + (fixed[:, k + 1] * rows)[:, :, None] for k in (0, 3)
    )
    return _between(images, x, y, fill) if smooth else _nearest(images, x, y, fill)


def _nearest(images: Tensor, x: Tensor, y: Tensor, fill: int) -> Tensor:
    """The pixels that (x, y), int32 (N, H, W) with `_ONE` bits behind the point, lie in."""
    number, height, width, channels = images.shape
    # A pixel as a word of four bytes, and a border for whatever lies outside.
    words = images.new_full((number, height + 2, width + 2, 4), fill)
    words[:, 1:-1, 1:-1, :channels] = images
    start = torch.arange(number, device=images.device, dtype=torch.int32) * ((height + 2) * (width + 2)) + width + 3
    index = y.bitwise_right_shift_(_ONE).clamp_(-1, height).mul_(width + 2)
    index += x.bitwise_right_shift_(_ONE).clamp_(-1, width)
    index += start[:, None, None]
    seen = words.view(torch.int32).view(-1).index_select(0, index.view(-1))
    return seen.view(torch.uint8).view(number, height, width, 4)[..., :channels].contiguous()


def _between(images: Tensor, x: Tensor, y: Tensor, fill: int) -> Tensor:
    """The same, bilinear: the weighted mean of the four pixels around (x, y)."""
    number, height, width, channels = images.shape
    outside = (x < 0) | (x >= width << _ONE) | (y < 0) | (y >= height << _ONE)
    base = (torch.arange(number, device=images.device).int() * (height * width))[:, None, None]
    pixels = images.reshape(-1, channels)

    def seen(at_x: Tensor, at_y: Tensor) -> Tensor:
        index = base + at_y.clamp(0, height - 1) * width + at_x.clamp(0, width - 1)
        return pixels.index_select(0, index.view(-1)).view(images.shape).int()

    x, y = x - (1 << (_ONE - 1)), y - (1 << (_ONE - 1))
    one = 1 << _PART
    parts = [((v & ((1 << _ONE) - 1)) >> (_ONE - _PART))[..., None] for v in (x, y)]
    x, y = x >> _ONE, y >> _ONE
    upper, lower = (seen(x, row) * (one - parts[0]) + seen(x + 1, row) * parts[0] for row in (y, y + 1))
    total = upper * (one - parts[1]) + lower * parts[1]
    return (total >> 2 * _PART).to(torch.uint8).masked_fill_(outside[..., None], fill)


def turned(degrees: np.ndarray, height: int, width: int) -> np.ndarray:
    """Maps (N, 6) for `affine` that turn an image about its middle, counterclockwise."""
    angle = np.radians(degrees)
    cos, sin = np.cos(angle), np.sin(angle)
    x, y = width / 2, height / 2
    return np.stack([cos, -sin, x - cos * x + sin * y, sin, cos, y - sin * x - cos * y], axis=1)


def blackened(images: Tensor, row: np.ndarray, column: np.ndarray, side: int) -> Tensor:
    """A black square of `side` pixels (an odd one loses one) about the pixel (row, column), cut off at the border."""
    _, height, width, _ = images.shape
    device, reach = images.device, side // 2
    inside = []
    for at, length in ((row, height), (column, width)):
        away = torch.arange(length, device=device) - on(device, at)[:, None]
        inside.append((away >= -reach) & (away < reach))
    return images.masked_fill((inside[0][:, :, None] & inside[1][:, None, :])[..., None], 0)
