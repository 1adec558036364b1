"""Augmentation of one image: the same bits as its parts in a row, and nothing but a clipped square cut out."""

import pickle
import random

import numpy as np
import pytest
import timm.data.auto_augment
import torch
from torchvision.transforms import v2

from car_ext.errors import InputError
from car_ext.methods.augment.boxes import clipped_box
from car_ext.methods.augment.images import BASES, MODIFIERS, Cutout, image_augmentation


def image(size: int = 36, channels: int = 3) -> torch.Tensor:
    return torch.randint(1, 256, (channels, size, size), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)


def seeded(augment, seed: int, picture: torch.Tensor) -> torch.Tensor:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return augment(picture)


CROP, FLIP, RRC = v2.RandomCrop(32, padding=4), v2.RandomHorizontalFlip(), v2.RandomResizedCrop(32, scale=(0.8, 1.0))
WIDE = v2.RandomResizedCrop(32, scale=(0.08, 1.0))
AUTO = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)
RANDOM = v2.RandAugment(num_ops=2, magnitude=30, num_magnitude_bins=31, fill=128)  # 10 of 10 is 30 of 30


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("crop", [CROP]),
        ("crop-flip", [CROP, FLIP]),
        ("rrc", [RRC, FLIP]),
        ("rrc-wide+jitter", [WIDE, FLIP, v2.ColorJitter(0.4, 0.4, 0.4)]),
        (
            "simclr-wide",
            [WIDE, FLIP, v2.RandomApply([v2.ColorJitter(0.4, 0.4, 0.4, 0.1)], 0.8), v2.RandomGrayscale(0.2)],
        ),
        ("autoaugment", [CROP, FLIP, AUTO]),
        ("randaugment", [CROP, FLIP, RANDOM]),
        ("randaugment+cutout", [CROP, FLIP, RANDOM, Cutout(16)]),
    ],
)
def test_a_name_is_its_parts_in_a_row(name, parts):
    def by_parts(picture):
        for part in parts:
            picture = part(picture)
        return picture

    augment, seen = image_augmentation(name, 32), set()
    for seed in range(60):
        result = seeded(augment, seed, image())
        assert torch.equal(result, seeded(by_parts, seed, image()))
        seen.add(result.numpy().tobytes())
    assert len(seen) > 40


def test_large_images_are_cropped_and_resized_before_randaugment():
    sizes = {size: type(image_augmentation("randaugment", size).transforms[0]) for size in (96, 97)}
    assert sizes == {96: v2.RandomCrop, 97: v2.RandomResizedCrop}


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*BASES, *(f"crop+{word}" for word in MODIFIERS), "rrc+jitter+cutout"])
def test_every_augmentation_gives_a_square_of_bytes(name, channels):
    augment = pickle.loads(pickle.dumps(image_augmentation(name, 24)))  # as a worker process gets it
    for seed in range(10):
        result = seeded(augment, seed, image(30, channels))
        assert result.shape == (channels, 24, 24)
        assert result.dtype == torch.uint8


def test_none_is_none():
    assert image_augmentation("none", 32) is None


@pytest.mark.parametrize("name", ["mirror", "none+cutout", "crop+", "crop+blur", "crop+cutout+cutout", "cutout"])
def test_an_unknown_name_is_named(name):
    with pytest.raises(InputError, match=r"augmentation is '.*', but must be one of none, crop, .* any of \+jitter, "):
        image_augmentation(name, 32)


def test_timm_s_randaugment_is_timm_s_and_leaves_other_generators_alone():
    augment, picture = image_augmentation("crop+randaugment-mstd", 32), image()
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.random(), np.random.rand()  # noqa: NPY002
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    results = [seeded(augment, seed, picture) for seed in range(20)]
    assert (random.random(), np.random.rand()) == before  # noqa: NPY002
    assert all(torch.equal(seeded(augment, seed, picture), result) for seed, result in enumerate(results))
    assert len({result.numpy().tobytes() for result in results}) > 12
    operations = augment.transforms[1].transform
    theirs = timm.data.auto_augment.rand_augment_transform("rand-n2-m10-mstd0.5", {"img_mean": (128, 128, 128)})
    assert [op.name for op in operations.ops] == [op.name for op in theirs.ops]
    assert {(op.prob, op.magnitude, op.magnitude_std) for op in operations.ops} == {(0.5, 10, 0.5)}


def test_cutout_blackens_one_clipped_square():
    picture, sizes = image(20), set()
    before = picture.clone()
    for seed in range(200):
        black = (seeded(Cutout(8), seed, picture) == 0).all(dim=0).numpy()
        rows, columns = np.flatnonzero(black.any(axis=1)), np.flatnonzero(black.any(axis=0))
        assert black.sum() == len(rows) * len(columns)
        assert rows[-1] - rows[0] + 1 == len(rows)
        assert (len(rows) == 8) or rows[0] == 0 or rows[-1] == 19
        assert 4 <= len(rows) <= 8
        sizes.add((len(rows), len(columns)))
    assert {height for height, _ in sizes} == {width for _, width in sizes} == {4, 5, 6, 7, 8}
    assert torch.equal(picture, before)


@pytest.mark.parametrize(("height", "width", "box_height", "box_width"), [(5, 8, 4, 2), (6, 3, 3, 9), (4, 4, 0, 1)])
def test_boxes_are_drawn_from_every_centre(height, width, box_height, box_width):
    def reach(centre, box, side):
        inside = [pixel for pixel in range(side) if centre - box // 2 <= pixel < centre + box // 2]
        return tuple(inside)

    expected = [(reach(y, box_height, height), reach(x, box_width, width)) for y in range(height) for x in range(width)]
    generator, draws = torch.Generator().manual_seed(0), 100 * len(expected)
    drawn = []
    for _ in range(draws):
        rows, columns = clipped_box(height, width, box_height, box_width, generator)
        drawn.append((tuple(range(rows.start, rows.stop)), tuple(range(columns.start, columns.stop))))
    assert set(drawn) == set(expected)
    for box in set(expected):
        p = expected.count(box) / len(expected)
        assert abs(drawn.count(box) - draws * p) <= 5 * (draws * p * (1 - p)) ** 0.5
