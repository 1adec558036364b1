"""Augmentation by name: the same image in any company, drawn as the name says."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from car_ext.errors import InputError
from car_ext.methods.augment import images as images_module
from car_ext.methods.augment.draws import Draws
from car_ext.methods.augment.images import BASES, LARGEST_CROP, MODIFIERS, Augmentation, boxes


def pictures(number=60, size=36, channels=3):
    return torch.from_numpy(np.random.default_rng(0).integers(1, 256, (number, size, size, channels), dtype=np.uint8))


def keys(number=60, epoch=1, again=0):
    return np.stack([np.full(number, epoch), np.full(number, again), np.arange(number)], axis=1)


def one(number, size):
    """The same image many times."""
    return pictures(1, size).expand(number, -1, -1, -1)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("name", [*BASES, *(f"crop+{word}" for word in MODIFIERS), "rrc+jitter+cutout"])
def test_an_image_is_the_same_in_any_batch_and_any_order(name, channels):
    augmentation, images = Augmentation(name, 24, 5), pictures(channels=channels, size=30)
    before, whole = images.clone(), augmentation(images, keys())
    assert torch.equal(images, before)
    assert whole.shape == (60, 24, 24, channels)
    assert whole.dtype == torch.uint8
    order = np.random.default_rng(1).permutation(60)
    for part in (order, order[:7], order[:1]):
        assert torch.equal(augmentation(images[part], keys()[part]), whole[part])
    for other in (Augmentation(name, 24, 6), Augmentation(name, 24, 5, "view 0")):
        assert (other(images, keys()) != whole).flatten(1).any(1).float().mean() > 0.8
    for changed in (keys(epoch=2), keys(again=1)):
        assert (augmentation(images, changed) != whole).flatten(1).any(1).float().mean() > 0.8
    state = torch.get_rng_state()
    augmentation(images, keys())
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize(
    "name", ["none", "mirror", "none+cutout", "crop+", "crop+blur", "crop+cutout+cutout", "cutout"]
)
def test_an_unknown_name_is_named(name):
    with pytest.raises(InputError, match=r"augmentation is '.*', but must be one of crop, .* any of \+jitter, "):
        Augmentation(name, 32, 0)


def test_crops_come_from_every_place_and_half_are_mirrored():
    picture = pictures(1, 8)[0].numpy()
    padded = np.pad(picture, ((1, 1), (1, 1), (0, 0)))
    for name, sides in (("crop", [1]), ("crop-flip", [1, -1])):
        found = Augmentation(name, 8, 0)(one(9000, 8), keys(9000)).numpy()
        counts = [
            (found == padded[y : y + 8, x : x + 8][:, ::side]).all(axis=(1, 2, 3)).sum()
            for y in range(3)
            for x in range(3)
            for side in sides
        ]
        expected = 9000 / len(counts)
        assert sum(counts) == 9000
        assert max(abs(count - expected) for count in counts) <= 5 * expected**0.5


def test_an_image_larger_than_the_network_s_is_cropped_from_all_of_it():
    found = Augmentation("crop", 8, 0)(one(2000, 12), keys(2000)).numpy()
    padded = np.pad(pictures(1, 12)[0].numpy(), ((1, 1), (1, 1), (0, 0)))
    places = {padded[y : y + 8, x : x + 8].tobytes() for y in range(7) for x in range(7)}
    assert {image.tobytes() for image in found} == places


@pytest.mark.parametrize("least", [0.08, 0.2, 0.8])
def test_boxes_are_drawn_as_torchvision_draws_them(least):
    number = 4000
    ours = boxes(Draws("test", 0)(keys(number), 22), 32, least)
    assert (ours[:, :2] >= 0).all()
    assert (ours[:, :2] + ours[:, 2:] <= 32).all()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        drawn = v2.RandomResizedCrop(32, scale=(least, 1.0))
        made = [drawn.make_params([torch.zeros(3, 32, 32)]) for _ in range(number)]
    theirs = np.array([[box[key] for key in ("top", "left", "height", "width")] for box in made])
    for column, other in zip(
        np.c_[ours, ours[:, 2] * ours[:, 3]].T, np.c_[theirs, theirs[:, 2] * theirs[:, 3]].T, strict=True
    ):
        edges = np.unique(np.concatenate([column, other]))
        shares = [np.searchsorted(np.sort(v), edges, side="right") / number for v in (column, other)]
        assert np.abs(shares[0] - shares[1]).max() < 2.2 * (2 / number) ** 0.5  # Kolmogorov and Smirnov, p = 1e-4


def test_large_images_are_cropped_and_resized_before_randaugment():
    for size, first in ((LARGEST_CROP, "crop-flip"), (LARGEST_CROP + 1, "rrc")):
        images = pictures(4, size)
        both = Augmentation("randaugment", size, 0), Augmentation(first, size, 0)
        assert [count for _, count in both[0]._steps][:2] == [count for _, count in both[1]._steps]
        assert not torch.equal(both[0](images, keys(4)), both[1](images, keys(4)))


def test_words_follow_one_another():
    images = pictures()
    found = Augmentation("crop-flip+cutout", 32, 0)(images, keys())
    before = Augmentation("crop-flip", 32, 0)(images, keys())  # the first draws are the same
    black = (found == 0) & (before != 0)
    assert torch.equal(found, before.masked_fill(black, 0))
    assert black.flatten(1).any(1).all()


def test_cutout_blackens_a_square_about_every_pixel():
    found = (Augmentation("crop+cutout", 8, 0)(one(20000, 8), keys(20000)).numpy() == 0).all(axis=3)
    inside = Augmentation("crop", 8, 0)(one(20000, 8), keys(20000)).numpy().all(axis=3)
    cut = found & inside
    # Four pixels wide about a uniform centre: a middle pixel is covered by 16 of 64 centres, a corner by 9... or 4.
    share = cut.sum(axis=0) / inside.sum(axis=0)
    reach = np.array([min(7, y + 2) - max(0, y - 1) + 1 for y in range(8)])
    assert np.abs(share - np.outer(reach, reach) / 64).max() < 0.02


def test_simclr_changes_the_colours_of_four_fifths_and_greys_a_fifth():
    # A picture of one colour: crops, mirroring and blur leave it as it is.
    plain = torch.tensor([200, 90, 30], dtype=torch.uint8).expand(4000, 4, 4, 3)
    found = Augmentation("simclr", 4, 0)(plain, keys(4000))
    grey = (found == found[..., :1]).flatten(1).all(1)
    assert abs(grey.float().mean() - 0.2) < 5 * (0.2 * 0.8 / 4000) ** 0.5
    same = (found == plain).flatten(1).all(1)  # neither grey nor of other colours
    assert abs(same.float().mean() - 0.8 * 0.2) < 5 * (0.16 * 0.84 / 4000) ** 0.5
    assert Augmentation("simclr", 4, 0)(pictures(9, 4, 1), keys(9)).shape == (9, 4, 4, 1)


@pytest.mark.parametrize("name", ["simclr", "simclr-wide"])
def test_simclr_blurs_half_and_its_wide_variant_none(name, monkeypatch):
    blurred, deviations = [], []

    def noted(images, deviation, reach):
        blurred.append((len(images), reach))
        deviations.extend(deviation)
        return images

    monkeypatch.setattr(images_module, "blurred", noted)
    Augmentation(name, 4, 0)(one(4000, 4), keys(4000))
    if name == "simclr-wide":
        assert blurred == []
        return
    ((number, reach),) = blurred
    assert reach == 3  # as far as four pixels can be mirrored
    assert abs(number - 2000) < 5 * (4000 * 0.25) ** 0.5
    assert 0.1 <= min(deviations) < 0.11
    assert 1.99 < max(deviations) <= 2.0
    assert abs(np.mean(deviations) - 1.05) < 5 * 1.9 / (12 * 2000) ** 0.5
