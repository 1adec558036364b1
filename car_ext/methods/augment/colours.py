"""What the pixels of an image become: brightness to hue, of a batch whose images differ in it.

Images are uint8 (N, H, W, C) on any device, of 3 channels or 1; the argument of each is a NumPy array (N,). Blends are
integers of 16 bits behind the point, cut to 0 .. 255 and rounded down, so that a pixel depends neither on the device
nor on the other images; Pillow and torchvision, which compute in floating point, are within one grey level.
`shifted_hue` alone is float32, and a device may round it to the neighbouring grey level.
"""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from car_ext.methods.augment.geometry import on

_ONE = 16
_GREY = 19595, 38470, 7471  # ITU-R 601-2, as Pillow has it, of 65536


def _values(images: Tensor) -> Tensor:
    return torch.arange(256, device=images.device, dtype=torch.int32)


class Tabled:
    """An operation that replaces each byte by what a table of its image and channel has for it.

    Args:
        tables: makes of images (N, H, W, C) and arguments (N,) the tables, integers (N or 1, C or 1, 256).
    """

    def __init__(self, tables: Callable[[Tensor, np.ndarray], Tensor]) -> None:
        self.tables = tables
        self.__doc__ = tables.__doc__

    def __call__(self, images: Tensor, argument: np.ndarray) -> Tensor:
        return looked_up(images, self.tables(images, argument))


def looked_up(images: Tensor, tables: Tensor) -> Tensor:
    """Each byte replaced by what a table (N or 1, C or 1, 256) of its image and channel has for it."""
    number, _, _, channels = images.shape
    tables = tables.to(torch.uint8).expand(number, channels, 256).reshape(-1)
    start = torch.arange(0, 256 * number * channels, 256, device=images.device, dtype=torch.int32)
    index = images.int() + start.view(number, 1, 1, channels)
    return tables.index_select(0, index.view(-1)).view(images.shape)


def _column(images: Tensor, values: np.ndarray) -> Tensor:
    return on(images.device, values.astype(np.int32))[:, None, None]


def _blended(own: Tensor, other: Tensor, factor: Tensor) -> Tensor:
    """`factor` (of `_ONE` bits) of `own`, and the rest to one of `other`; int32 within 0 .. 255."""
    return (own * factor + other * ((1 << _ONE) - factor)).bitwise_right_shift_(_ONE).clamp_(0, 255)


def _fixed(factor: np.ndarray) -> np.ndarray:
    return np.floor(factor * 2**_ONE + 0.5)


def grey(images: Tensor) -> Tensor:
    """The luminance, int32 (N, H, W, 1)."""
    if images.shape[3] == 1:
        return images.int()
    weighted = [images[..., channel : channel + 1].int() * weight for channel, weight in enumerate(_GREY)]
    return (weighted[0] + weighted[1] + weighted[2] + (1 << (_ONE - 1))).bitwise_right_shift_(_ONE)


@Tabled
def brightened(images: Tensor, factor: np.ndarray) -> Tensor:
    """Times `factor`."""
    return _blended(_values(images), _values(images)[:1], _column(images, _fixed(factor)))


@Tabled
def contrasted(images: Tensor, factor: np.ndarray) -> Tensor:
    """The distance to the mean luminance of the image times `factor`."""
    luminance = grey(images)
    pixels = luminance[0].numel()
    mean = ((luminance.sum(dim=(1, 2, 3)) + pixels // 2) // pixels).int()
    return _blended(_values(images), mean[:, None, None], _column(images, _fixed(factor)))


def saturated(images: Tensor, factor: np.ndarray) -> Tensor:
    """The distance of every pixel to its luminance times `factor`; one channel stays as it is."""
    if images.shape[3] == 1:
        return images
    return _blended(images.int(), grey(images), _column(images, _fixed(factor))[..., None]).to(torch.uint8)


def greyed(images: Tensor, _: np.ndarray) -> Tensor:
    """Without colour."""
    return grey(images).to(torch.uint8).expand(images.shape)


def sharpened(images: Tensor, factor: np.ndarray) -> Tensor:
    """The distance of every pixel to the 3 x 3 around it, itself five times, times `factor`; not at the border."""
    own = images.int()
    _, height, width, _ = own.shape
    if min(height, width) < 3:
        return images
    smooth = own.clone()
    inner = own[:, 1:-1, 1:-1] * 4
    rows = own[:, :-2] + own[:, 1:-1] + own[:, 2:]
    inner += rows[:, :, :-2] + rows[:, :, 1:-1] + rows[:, :, 2:]
    smooth[:, 1:-1, 1:-1] = (inner + 6).div_(13, rounding_mode="floor")
    return _blended(own, smooth, _column(images, _fixed(factor))[..., None]).to(torch.uint8)


def posterized(images: Tensor, bits: np.ndarray) -> Tensor:
    """Only the first `bits` of the eight of every byte."""
    return images & on(images.device, (256 - 2 ** (8 - bits.astype(np.int64))).astype(np.uint8))[:, None, None, None]


def solarized(images: Tensor, threshold: np.ndarray) -> Tensor:
    """Bytes from `threshold` on are inverted."""
    at_least = on(images.device, threshold.astype(np.int32))[:, None, None, None]
    return torch.where(images.int() < at_least, images, 255 - images)


def inverted(images: Tensor, _: np.ndarray) -> Tensor:
    """The negative."""
    return 255 - images


@Tabled
def solarize_added(images: Tensor, added: np.ndarray) -> Tensor:
    """Bytes below 128 are raised by `added`."""
    values = _values(images)
    return torch.where(values < 128, (values + _column(images, added)).clamp_(max=255), values)


@Tabled
def autocontrasted(images: Tensor, _: np.ndarray) -> Tensor:
    """Every channel stretched to 0 .. 255; one of a single grey level stays as it is."""
    least, most = (images.flatten(1, 2).amin(1).int()[:, :, None], images.flatten(1, 2).amax(1).int()[:, :, None])
    stretched = ((_values(images) - least) * 255).div((most - least).clamp(min=1), rounding_mode="floor")
    return torch.where(most > least, stretched.clamp_(0, 255), _values(images))


@Tabled
def equalized(images: Tensor, _: np.ndarray) -> Tensor:
    """Every channel with its grey levels as evenly used as can be, as Pillow's `equalize`."""
    number, height, width, channels = images.shape
    start = torch.arange(0, 256 * number * channels, 256, device=images.device).view(number, 1, 1, channels)
    index = (images.long() + start).view(-1)
    counts = torch.zeros(number * channels * 256, device=images.device, dtype=torch.int32)
    counts.scatter_add_(0, index, counts.new_ones(()).expand(len(index)))
    counts = counts.view(number, channels, 256)
    below = counts.cumsum(2, dtype=torch.int32) - counts
    highest = images.flatten(1, 2).amax(1).long()[:, :, None]
    step = (height * width - counts.gather(2, highest)).div(255, rounding_mode="floor")
    even = (below + step // 2).div(step.clamp(min=1), rounding_mode="floor").clamp_(0, 255)
    return torch.where(step > 0, even, _values(images))


def shifted_hue(images: Tensor, shift: np.ndarray) -> Tensor:
    """The hue turned by `shift` of a whole turn; one channel has none."""
    if images.shape[3] == 1:
        return images
    pixels = images.float()
    most, least = pixels.amax(3), pixels.amin(3)
    span = most - least
    red, green, blue = pixels.unbind(3)
    divisor = span.clamp(min=1)
    sixth = torch.where(
        most == red,
        (green - blue) / divisor,
        torch.where(most == green, 2 + (blue - red) / divisor, 4 + (red - green) / divisor),
    )
    sixth = sixth + 6 * on(images.device, shift.astype(np.float32))[:, None, None]
    # In HSV a channel is V - S V max(0, min(k, 4 - k, 1)), k = (n + H) mod 6 for n = 5, 3, 1.
    turned = [(sixth + n).remainder(6) for n in (5, 3, 1)]
    channels = [most - span * torch.minimum(k, 4 - k).clamp(0, 1) for k in turned]
    return torch.stack(channels, dim=3).add_(0.5).clamp_(0, 255).to(torch.uint8)


def blurred(images: Tensor, deviation: np.ndarray, reach: int) -> Tensor:
    """A Gaussian of `deviation` pixels, cut off after `reach`; the image goes on mirrored beyond its border."""
    away = np.arange(-reach, reach + 1)
    weights = np.exp(-0.5 * (away / deviation[:, None]) ** 2)
    weights = _fixed(weights / weights.sum(axis=1, keepdims=True)).astype(np.int32)
    weights[:, reach] += 2**_ONE - weights.sum(axis=1)
    total = images.int()
    for axis, dropped in ((1, _ONE - 7), (2, _ONE + 7)):  # 7 bits behind the point between the two fit into 31
        side = images.shape[axis]
        around = np.arange(-reach, side + reach)
        around = side - 1 - np.abs(side - 1 - np.abs(around))
        wide = total.index_select(axis, on(images.device, around))
        parts = on(images.device, weights)[:, :, None, None, None]
        total = wide.narrow(axis, 0, side) * parts[:, 0]
        for tap in range(1, 2 * reach + 1):
            total += wide.narrow(axis, tap, side) * parts[:, tap]
        total = total.add_(1 << (dropped - 1)).bitwise_right_shift_(dropped)
    return total.to(torch.uint8)
