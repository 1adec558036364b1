"""Drawn operations: each as its source has it, as often as its source draws it."""

import numpy as np
import pytest
import torch
from PIL import Image
from timm.data import auto_augment
from torchvision.transforms import v2

from car_ext.methods.augment import policies
from car_ext.methods.augment.draws import Draws

SOURCE_NAMES = {name.replace("_", ""): name for name in (*policies.RANDAUGMENT, "invert")}
AUTO = v2.AutoAugment(v2.AutoAugmentPolicy.CIFAR10, fill=128)
RANDOM = v2.RandAugment(num_ops=2, magnitude=10, num_magnitude_bins=11, fill=128)


def pictures(number=8, size=32, channels=3):
    return np.random.default_rng(0).integers(0, 256, (number, size, size, channels), dtype=np.uint8)


def uniform(number, count):
    keys = np.stack([np.zeros(number), np.zeros(number), np.arange(number)], axis=1).astype(np.int64)
    return Draws("test", 0)(keys, count)


def test_the_policy_is_that_of_torchvision():
    theirs = [[(SOURCE_NAMES[n.lower()], p, m or 0) for n, p, m in pair] for pair in AUTO._policies]
    assert [list(pair) for pair in policies.CIFAR10_POLICY] == theirs
    assert {SOURCE_NAMES[name.lower()] for name in RANDOM._AUGMENTATION_SPACE} == set(policies.RANDAUGMENT)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", AUTO._AUGMENTATION_SPACE)
def test_an_operation_is_that_of_torchvision_at_every_strength(name, channels):
    images, number = pictures(channels=channels), policies._NAMES.index(SOURCE_NAMES[name.lower()])
    magnitudes, signed = AUTO._AUGMENTATION_SPACE[name]
    for ninths, sign in [(9, 1), (3, 1), *([(9, -1), (5, -1)] if signed else [])]:
        found = magnitudes(10, 32, 32)
        magnitude = 0.0 if found is None else sign * float(found[ninths])
        strengths = policies._strengths(np.full(8, number), ninths / 9, np.full(8, 0.2 if sign < 0 else 0.7))
        ours = policies._OPERATIONS[number](torch.from_numpy(images), strengths).numpy()
        for image, picture in zip(ours, images, strict=True):
            tensor = torch.from_numpy(picture).permute(2, 0, 1)
            theirs = AUTO._apply_image_or_video_transform(tensor, name, magnitude, AUTO.interpolation, AUTO._fill)
            differences = np.abs(image.astype(int) - theirs.permute(1, 2, 0).numpy()).max(axis=2)
            # Where a coordinate lies between two pixels, either may be taken.
            assert (differences > 1).mean() <= (0.01 if name in {"Rotate", "ShearX", "ShearY"} else 0)


@pytest.mark.parametrize("name", policies.MSTD)
def test_an_operation_of_the_other_set_is_timm_s(name, monkeypatch):
    images = pictures()
    for level in (10.0, 9.3, 8.2, *(-v for v in (10.0, 9.1))):
        monkeypatch.setattr(auto_augment, "_randomly_negate", lambda v, level=level: np.sign(level) * v)
        options = {"img_mean": (128, 128, 128), "interpolation": Image.Resampling.BILINEAR}
        theirs = auto_augment.AugmentOp(name, prob=1.0, magnitude=abs(level), hparams=options)
        ours = policies.MSTD[name](torch.from_numpy(images), np.full(len(images), level)).numpy().astype(int)
        for image, picture in zip(ours, images, strict=True):
            differences = np.abs(image - np.asarray(theirs(Image.fromarray(picture)))).max(axis=2)
            assert (differences > 1).sum() <= (1 if name in {"Rotate", "ShearX", "ShearY"} else 0)


def test_the_other_set_and_its_chances_are_timm_s():
    theirs = auto_augment.rand_augment_transform("rand-n2-m10-mstd0.5", {"img_mean": (128, 128, 128)})
    assert [op.name for op in theirs.ops] == list(policies.MSTD)
    assert {(op.prob, op.magnitude, op.magnitude_std, op.magnitude_max) for op in theirs.ops} == {(0.5, 10, 0.5, None)}
    assert theirs.num_layers == 2


@pytest.fixture
def drawn(monkeypatch):
    """What is drawn for 20000 images: a list of (operations, arguments), and a function that fills it."""
    seen = []

    def noted(images, chosen, arguments, operations):
        seen.append((chosen, arguments))
        return images

    monkeypatch.setattr(policies, "each_its_own", noted)
    return seen


def near(count, chance, number=20000):
    return abs(count - number * chance) <= 5 * (number * chance * (1 - chance)) ** 0.5 + 1e-9


def test_randaugment_draws_each_operation_as_often_and_either_sign(drawn):
    policies.randaugmented(torch.zeros(1), uniform(20000, 4))
    assert len(drawn) == 2
    for chosen, strengths in drawn:
        assert all(near(np.sum(chosen == number), 1 / 14) for number in range(14))
        assert chosen.max() == 13
        for name in ("shear_x", "rotate", "contrast"):
            number = policies._NAMES.index(name)
            assert set(np.abs(strengths[chosen == number])) == {policies._STRENGTHS[number]}
            assert near(np.sum((chosen == number) & (strengths < 0)), 0.5 / 14)
    assert near(np.sum((drawn[0][0] == 1) & (drawn[1][0] == 2)), 1 / 14**2)


def test_autoaugment_draws_its_pairs_with_their_chances(drawn):
    policies.autoaugmented(torch.zeros(1), uniform(20000, 5))
    for turn, (chosen, strengths) in enumerate(drawn):
        for number, name in enumerate(policies._NAMES):
            chance = sum(pair[turn][1] for pair in policies.CIFAR10_POLICY if pair[turn][0] == name) / 25
            assert near(np.sum(chosen == number), chance), name
        moved = policies._NAMES.index("translate_y")
        expected = {
            ninths / 9 * 150 / 331
            for pair in policies.CIFAR10_POLICY
            for n, _, ninths in pair[turn : turn + 1]
            if n == "translate_y"
        }
        assert np.allclose(np.unique(np.abs(strengths[chosen == moved])), sorted(expected))


def test_timm_s_variant_leaves_out_half_and_draws_its_magnitude(drawn):
    policies.mstd_augmented(torch.zeros(1), uniform(20000, 10))
    assert len(drawn) == 2
    for chosen, level in drawn:
        assert near(np.sum(chosen == -1), 0.5)
        assert all(near(np.sum(chosen == number), 0.5 / 15) for number in range(15))
        assert near(np.sum(level < 0), 0.5)
        assert near(np.sum(np.abs(level) == 10), 0.5)  # what is above is cut off
        for below, chance in ((9.5, 0.158655), (9.0, 0.0227501), (9.75, 0.308538)):
            assert near(np.sum(np.abs(level) < below), chance)


def test_colours_are_jittered_in_every_order_as_strongly_as_asked(drawn):
    for hue, kinds in ((0.0, 3), (0.1, 4)):
        drawn.clear()
        policies.jittered(torch.zeros(1), uniform(20000, 8), hue)
        order = np.stack([chosen for chosen, _ in drawn], axis=1)
        orders, counts = np.unique(order, axis=0, return_counts=True)
        assert len(orders) == np.prod(range(1, kinds + 1))
        assert all(near(count, 1 / len(orders)) for count in counts)
        for kind in range(kinds):
            values = np.concatenate([arguments[chosen == kind] for chosen, arguments in drawn])
            low, high = (0.6, 1.4) if kind < 3 else (-hue, hue)
            assert len(values) == 20000
            assert low <= values.min() < low + 1e-3 * (high - low)
            assert high - 1e-3 * (high - low) < values.max() <= high
            assert near(np.sum(values < low + 0.3 * (high - low)), 0.3)


def test_images_go_through_their_own_operation_alone():
    images, chosen = torch.from_numpy(pictures(6)), np.array([0, 1, -1, 1, 2, 0])
    before = images.clone()
    operations = (
        lambda x, a: x + torch.from_numpy(a.astype(np.uint8))[:, None, None, None],
        lambda x, a: 255 - x,
        None,
    )
    found = policies.each_its_own(images, chosen, np.arange(6), operations)
    assert torch.equal(images, before)
    expected = torch.stack([images[0], 255 - images[1], images[2], 255 - images[3], images[4], images[5] + 5])
    assert torch.equal(found, expected)
