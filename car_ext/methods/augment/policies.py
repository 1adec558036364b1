"""Operations drawn for each image: AutoAugment, RandAugment and timm's variant of it, jittered colours.

Images of a batch that drew the same operation go through it together.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import Tensor

from car_ext.methods.augment import colours
from car_ext.methods.augment.colours import Tabled, looked_up
from car_ext.methods.augment.geometry import affine, on, turned

FILL = 128  # what moves into the image at its border
MSTD_MAGNITUDE, MSTD_DEVIATION = 10.0, 0.5  # of timm's `m10-mstd0.5`; magnitudes are cut off at 10

Operation = Callable[[Tensor, np.ndarray], Tensor]  # images (M, H, W, C) and an argument (M,)


@dataclass(frozen=True)
class Mapped:
    """An operation that is an affine map; those of one set are all `smooth`, or none is."""

    maps: Callable[[np.ndarray, int, int], np.ndarray]  # of arguments (M,), height and width: (M, 6), as of `affine`
    smooth: bool = False

    def __call__(self, images: Tensor, argument: np.ndarray) -> Tensor:
        return affine(images, self.maps(argument, *images.shape[1:3]), FILL, self.smooth)


def for_some(images: Tensor, chosen: np.ndarray, operation: Callable[[Tensor], Tensor]) -> Tensor:
    """The images, those that are `chosen` (N,) bool after the operation; what is given stays as it is."""
    if chosen.all():
        return operation(images)
    rows = np.flatnonzero(chosen)
    if not len(rows):
        return images
    return _together(
        [images, operation(images.index_select(0, on(images.device, rows)))], [np.arange(len(images)), rows]
    )


def _together(parts: list[Tensor], rows: list[np.ndarray]) -> Tensor:
    """A batch from parts of it and the rows where they belong, of which a later one covers an earlier one.

    Rows are gathered, as PyTorch copies them whole; scattering goes byte by byte.
    """
    places = np.concatenate(rows)
    source = np.empty(places.max() + 1, np.int64)
    source[places] = np.arange(len(places))
    return torch.cat(parts).index_select(0, on(parts[0].device, source))


def each_its_own(
    images: Tensor, chosen: np.ndarray, arguments: np.ndarray, operations: Sequence[Operation | None]
) -> Tensor:
    """Every image after operation number `chosen` (N,) with its argument (N,); None and -1 leave it as it is.

    All maps are one call, and so are all tables: for a dozen images of 32 pixels the calls take longer than the work.
    """
    tables: dict[int, Tabled] = {}
    maps: dict[int, Mapped] = {}
    work: list[tuple[np.ndarray, Operation]] = []
    for number in np.unique(chosen[chosen >= 0]):
        operation = operations[number]
        if isinstance(operation, Tabled):
            tables[number] = operation
        elif isinstance(operation, Mapped):
            maps[number] = operation
        elif operation is not None:
            work.append((np.flatnonzero(chosen == number), operation))
    tabled, mapped = (np.flatnonzero(np.isin(chosen, [*kind])) for kind in (tables, maps))
    if tables:
        work.append((tabled, partial(_by_tables, tables, chosen[tabled])))
    if maps:
        work.append((mapped, partial(_by_maps, maps, chosen[mapped])))
    parts, places = [images], [np.arange(len(images))]
    for rows, operation in work:
        parts.append(operation(images.index_select(0, on(images.device, rows)), arguments[rows]))
        places.append(rows)
    return _together(parts, places)


def _by_tables(tables: Mapping[int, Tabled], chosen: np.ndarray, images: Tensor, arguments: np.ndarray) -> Tensor:
    number, _, _, channels = images.shape
    found = images.new_empty(number, channels, 256)
    for kind, operation in tables.items():
        rows = on(images.device, np.flatnonzero(chosen == kind))
        made = operation.tables(images.index_select(0, rows), arguments[chosen == kind])
        found.index_copy_(0, rows, made.to(torch.uint8).expand(len(rows), channels, 256))
    return looked_up(images, found)


def _by_maps(maps: Mapping[int, Mapped], chosen: np.ndarray, images: Tensor, arguments: np.ndarray) -> Tensor:
    found = np.empty((len(chosen), 6))
    for kind, operation in maps.items():
        found[chosen == kind] = operation.maps(arguments[chosen == kind], *images.shape[1:3])
    return affine(images, found, FILL, next(iter(maps.values())).smooth)


def _but(**columns: Callable) -> Callable[[np.ndarray, int, int], np.ndarray]:
    """The identity, but for the columns of its map that are functions of (argument, height, width)."""

    def maps(argument: np.ndarray, height: int, width: int) -> np.ndarray:
        found = np.tile(np.array([1.0, 0, 0, 0, 1, 0]), (len(argument), 1))
        for column, value in columns.items():
            found[:, "abcdef".index(column)] = value(argument, height, width)
        return found

    return maps


LARGEST_MOVE = 150 / 331

# Operation, and its argument at full strength; `True`: as often with the opposite sign.
_STRONG: dict[str, tuple[Operation | None, float, bool]] = {
    "identity": (None, 0, False),
    "shear_x": (Mapped(_but(b=lambda factor, *_: factor)), 0.3, True),
    "shear_y": (Mapped(_but(d=lambda factor, *_: factor)), 0.3, True),
    "translate_x": (Mapped(_but(c=lambda share, _, width: -np.trunc(share * width))), LARGEST_MOVE, True),
    "translate_y": (Mapped(_but(f=lambda share, height, _: -np.trunc(share * height))), LARGEST_MOVE, True),
    "rotate": (Mapped(turned), 30.0, True),
    "brightness": (Tabled(lambda images, by: colours.brightened.tables(images, 1 + by)), 0.9, True),
    "color": (lambda images, by: colours.saturated(images, 1 + by), 0.9, True),
    "contrast": (Tabled(lambda images, by: colours.contrasted.tables(images, 1 + by)), 0.9, True),
    "sharpness": (lambda images, by: colours.sharpened(images, 1 + by), 0.9, True),
    "posterize": (lambda images, bits: colours.posterized(images, 8 - np.round(bits)), 4, False),
    "solarize": (lambda images, by: colours.solarized(images, np.ceil(np.round(255 * (1 - by), 6))), 1, False),
    "autocontrast": (colours.autocontrasted, 0, False),
    "equalize": (colours.equalized, 0, False),
    "invert": (colours.inverted, 0, False),
}
_NAMES = tuple(_STRONG)
_OPERATIONS = tuple(operation for operation, _, _ in _STRONG.values())
_STRENGTHS = np.array([strength for _, strength, _ in _STRONG.values()])
_SIGNED = np.array([signed for _, _, signed in _STRONG.values()])
RANDAUGMENT = _NAMES[:-1]  # all but invert

# Each a pair of (operation, probability, ninths of full strength): Cubuk et al., CVPR 2019, table of CIFAR-10.
CIFAR10_POLICY = (
    (("invert", 0.1, 0), ("contrast", 0.2, 6)),
    (("rotate", 0.7, 2), ("translate_x", 0.3, 9)),
    (("sharpness", 0.8, 1), ("sharpness", 0.9, 3)),
    (("shear_y", 0.5, 8), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.5, 0), ("equalize", 0.9, 0)),
    (("shear_y", 0.2, 7), ("posterize", 0.3, 7)),
    (("color", 0.4, 3), ("brightness", 0.6, 7)),
    (("sharpness", 0.3, 9), ("brightness", 0.7, 9)),
    (("equalize", 0.6, 0), ("equalize", 0.5, 0)),
    (("contrast", 0.6, 7), ("sharpness", 0.6, 5)),
    (("color", 0.7, 7), ("translate_x", 0.5, 8)),
    (("equalize", 0.3, 0), ("autocontrast", 0.4, 0)),
    (("translate_y", 0.4, 3), ("sharpness", 0.2, 6)),
    (("brightness", 0.9, 6), ("color", 0.2, 8)),
    (("solarize", 0.5, 2), ("invert", 0.0, 0)),
    (("equalize", 0.2, 0), ("autocontrast", 0.6, 0)),
    (("equalize", 0.2, 0), ("equalize", 0.6, 0)),
    (("color", 0.9, 9), ("equalize", 0.6, 0)),
    (("autocontrast", 0.8, 0), ("solarize", 0.2, 8)),
    (("brightness", 0.1, 3), ("color", 0.7, 0)),
    (("solarize", 0.4, 5), ("autocontrast", 0.9, 0)),
    (("translate_y", 0.9, 9), ("translate_y", 0.7, 9)),
    (("autocontrast", 0.9, 0), ("solarize", 0.8, 3)),
    (("equalize", 0.8, 0), ("invert", 0.1, 0)),
    (("translate_y", 0.7, 9), ("autocontrast", 0.9, 0)),
)
_POLICY_OPERATIONS = np.array([[_NAMES.index(name) for name, _, _ in pair] for pair in CIFAR10_POLICY])
_POLICY_CHANCES = np.array([[chance for _, chance, _ in pair] for pair in CIFAR10_POLICY])
_POLICY_STRENGTHS = np.array([[ninths / 9 for _, _, ninths in pair] for pair in CIFAR10_POLICY])


def whole(uniform: np.ndarray, count: int) -> np.ndarray:
    """0 to `count` - 1, each as likely (to 2^-32), from uniform numbers."""
    return (uniform * count).astype(np.int64)


def _strengths(operations: np.ndarray, share: np.ndarray | float, uniform: np.ndarray) -> np.ndarray:
    return _STRENGTHS[operations] * share * np.where(_SIGNED[operations] & (uniform < 0.5), -1, 1)


def autoaugmented(images: Tensor, uniform: np.ndarray) -> Tensor:
    """One of the 25 pairs of the policy, each of its operations with its probability; `uniform` (N, 5)."""
    pair = whole(uniform[:, 0], len(CIFAR10_POLICY))
    for turn in range(2):
        chance, sign = uniform[:, 1 + 2 * turn], uniform[:, 2 + 2 * turn]
        operations = _POLICY_OPERATIONS[pair, turn]
        strengths = _strengths(operations, _POLICY_STRENGTHS[pair, turn], sign)
        taken = np.where(chance < _POLICY_CHANCES[pair, turn], operations, -1)
        images = each_its_own(images, taken, strengths, _OPERATIONS)
    return images


def randaugmented(images: Tensor, uniform: np.ndarray) -> Tensor:
    """Two of the operations, each as likely and at full strength; `uniform` (N, 4)."""
    for turn in range(2):
        operations = whole(uniform[:, 2 * turn], len(RANDAUGMENT))
        images = each_its_own(images, operations, _strengths(operations, 1.0, uniform[:, 2 * turn + 1]), _OPERATIONS)
    return images


def _enhanced(operation: Operation) -> Operation:
    if isinstance(operation, Tabled):
        return Tabled(lambda images, level: operation.tables(images, np.abs(level) * 0.18 + 0.1))
    return lambda images, level: operation(images, np.abs(level) * 0.18 + 0.1)


# timm's set; the argument is the magnitude, 0 to 10, with a sign.
MSTD: dict[str, Operation] = {
    "AutoContrast": colours.autocontrasted,
    "Equalize": colours.equalized,
    "Invert": colours.inverted,
    "Rotate": Mapped(lambda level, *size: turned(3 * level, *size), True),
    "Posterize": lambda images, level: colours.posterized(images, np.floor(np.abs(level) / 10 * 4)),
    "Solarize": lambda images, level: colours.solarized(images, np.floor(np.abs(level) / 10 * 256)),
    "SolarizeAdd": Tabled(
        lambda images, level: colours.solarize_added.tables(images, np.floor(np.abs(level) / 10 * 110))
    ),
    "Color": _enhanced(colours.saturated),
    "Contrast": _enhanced(colours.contrasted),
    "Brightness": _enhanced(colours.brightened),
    "Sharpness": _enhanced(colours.sharpened),
    "ShearX": Mapped(_but(b=lambda level, *_: level * 0.03), True),
    "ShearY": Mapped(_but(d=lambda level, *_: level * 0.03), True),
    "TranslateXRel": Mapped(_but(c=lambda level, _, width: level * 0.045 * width), True),
    "TranslateYRel": Mapped(_but(f=lambda level, height, _: level * 0.045 * height), True),
}


def mstd_augmented(images: Tensor, uniform: np.ndarray) -> Tensor:
    """Two operations of `MSTD`, each left out half the time, at a normal magnitude; `uniform` (N, 10)."""
    for drawn in (uniform[:, :5], uniform[:, 5:]):
        normal = np.sqrt(-2 * np.log1p(-drawn[:, 2])) * np.cos(2 * np.pi * drawn[:, 3])  # Box and Muller
        level = np.clip(MSTD_MAGNITUDE + MSTD_DEVIATION * normal, 0, 10) * np.where(drawn[:, 4] < 0.5, -1, 1)
        chosen = np.where(drawn[:, 1] < 0.5, whole(drawn[:, 0], len(MSTD)), -1)
        images = each_its_own(images, chosen, level, tuple(MSTD.values()))
    return images


_JITTERS: tuple[Operation, ...] = (colours.brightened, colours.contrasted, colours.saturated, colours.shifted_hue)


def jittered(images: Tensor, uniform: np.ndarray, hue: float = 0.0) -> Tensor:
    """Brightness, contrast and saturation times 0.6 to 1.4, the hue by up to `hue` of a turn, in any order.

    `uniform` (N, 8): four for the arguments, four for the order.
    """
    arguments = 0.6 + 0.8 * uniform[:, :4]
    arguments[:, 3] = hue * (2 * uniform[:, 3] - 1)
    kinds = 4 if hue else 3
    order = uniform[:, 4 : 4 + kinds].argsort(axis=1, kind="stable")
    images_index = np.arange(len(order))
    for turn in range(kinds):
        images = each_its_own(images, order[:, turn], arguments[images_index, order[:, turn]], _JITTERS)
    return images
