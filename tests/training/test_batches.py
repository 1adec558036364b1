"""The batches of a job: the same from any number of workers, each image by draws of its own."""

from collections import Counter

import numpy as np
import torch

from car_ext.config.config import Config
from car_ext.datasets import Split
from car_ext.methods.augment.images import Augmentation
from car_ext.methods.samplers import build_sampler
from car_ext.seeds import derive
from car_ext.training import loader
from car_ext.training.job import Job


def test_batches_do_not_depend_on_the_workers():
    images = np.random.default_rng(0).integers(0, 256, (50, 12, 12, 3), dtype=np.uint8)
    split = Split(images, np.arange(50) % 5)

    def epoch(number: int, workers: int) -> list[list[np.ndarray]]:
        sampler = build_sampler("class_balanced", split.targets, 16, 0)
        batches = loader.train_loader(split, sampler, workers, pin_memory=False)
        return [[np.asarray(part) for part in batch] for batch in loader.begin_epoch(batches, number, 2)]

    alone, others = epoch(1, 0), epoch(1, 2)
    assert all(np.array_equal(a, b) for x, y in zip(alone, others, strict=True) for a, b in zip(x, y, strict=True))
    assert [x.shape for x, _, _ in alone] == [(16, 12, 12, 3)] * 3 + [(2, 12, 12, 3)]
    for pixels, targets, keys in alone:
        assert np.array_equal(pixels, images[keys[:, 2]])
        assert np.array_equal(targets, split.targets[keys[:, 2]])
    drawn: Counter[int] = Counter()
    for epoch_number, again, index in np.concatenate([keys for _, _, keys in alone]).tolist():
        assert (epoch_number, again) == (1, drawn[index])
        drawn[index] += 1
    assert max(drawn.values()) > 2
    assert not np.array_equal(alone[0][2][:, 2], epoch(2, 0)[0][2][:, 2])


def test_every_image_comes_once_an_epoch_and_a_last_single_one_joins_its_neighbours():
    images = np.arange(33, dtype=np.uint8).reshape(33, 1, 1, 1).repeat(4, axis=1).repeat(4, axis=2)
    sampler = build_sampler("instance", np.arange(33), 16, 0)
    batches = loader.train_loader(Split(images, np.arange(33)), sampler, 0, pin_memory=False)
    seen = [(x[:, 0, 0, 0].tolist(), y.tolist()) for x, y, _ in batches]
    assert [len(y) for _, y in seen] == [16, 17]
    assert len(batches) == 2
    assert all(x == y for x, y in seen)
    assert sorted(label for _, y in seen for label in y) == list(range(33))


def test_an_image_drawn_again_is_augmented_anew():
    images = np.random.default_rng(0).integers(0, 256, (8, 12, 12, 3), dtype=np.uint8)
    split = Split(images, np.array([0] * 7 + [1]))  # class 1 has one image, which balance draws about four times
    batches = loader.train_loader(split, build_sampler("class_balanced", split.targets, 8, 0), 0, False)
    ((stored, targets, keys),) = loader.begin_epoch(batches, 1, 1)
    seen = Augmentation("crop-flip", 10, 0)(stored, keys)
    rare = seen[targets == 1].flatten(1)
    assert len(rare) > 2
    assert len(rare.unique(dim=0)) == len(rare)


def test_evaluation_sees_the_centre_in_order():
    images = np.random.default_rng(0).integers(0, 256, (5, 8, 8, 1), dtype=np.uint8)
    batches = list(loader.ordered_loader(Split(images, np.arange(5)), 4, 2, 0, pin_memory=False))
    assert torch.equal(torch.cat([x for x, _ in batches]), torch.from_numpy(images[:, 2:6, 2:6]))
    assert torch.cat([y for _, y in batches]).tolist() == list(range(5))


def test_what_is_mixed_in_is_augmented_by_draws_of_its_own(monkeypatch):
    config = Config(mix="concutmix:prob=1", contrast="none", augment="crop-flip", workers=0, device="cpu", epochs=2)
    job, given = Job(config), []
    mixed = type(job.mix).__call__

    def noted(mix, images, targets, generator, partner, *rest):
        given.append((images, *partner))
        return mixed(mix, images, targets, generator, partner, *rest)

    monkeypatch.setattr(type(job.mix), "__call__", noted)
    batch, partner = next(job.begin_epoch(1))
    job.step(batch, partner, torch.Generator().manual_seed(0), 0.01)
    ((images, others, labels),) = given
    assert torch.equal(images, Augmentation("crop-flip", job.image_size, config.seed)(batch[0], batch[2]))
    assert torch.equal(labels, partner[1])
    expected = Augmentation("crop-flip", job.image_size, derive("partner", config.seed))(partner[0], partner[2])
    assert torch.equal(others, expected)
    unlike = Augmentation("crop-flip", job.image_size, config.seed)(partner[0], partner[2])
    assert not torch.equal(others, unlike)
