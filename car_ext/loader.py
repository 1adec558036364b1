"""Batches of uint8 images (N, H, W, C) and int64 targets (N,), the same bits from any number of workers."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from car_ext.augment.images import image_augmentation
from car_ext.datasets import Split
from car_ext.seeds import derive

Key = tuple[int, int]  # (epoch, index of the sample)
Batch = tuple[Tensor, Tensor]


def train_loader(
    split: Split, image_size: int, augment: str, batch_size: int, seed: int, workers: int, pin_memory: bool
) -> DataLoader:
    """Shuffled, augmented batches; call ``loader.batch_sampler.set_epoch(epoch)`` before each epoch.

    ``augment`` is a name of :func:`image_augmentation`; every image comes out ``image_size`` square.
    The last, incomplete batch is kept.
    """
    dataset = _Images(split, image_size, image_augmentation(augment, image_size), seed)
    return _loader(dataset, _Shuffled(len(split), batch_size, seed), workers, pin_memory)


def test_loader(split: Split, image_size: int, batch_size: int, workers: int, pin_memory: bool) -> DataLoader:
    """Every image once, in order: the centre of the stored image, ``image_size`` square."""
    keys = [(0, index) for index in range(len(split))]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return _loader(_Images(split, image_size, None, 0), batches, workers, pin_memory)


def _loader(dataset: Dataset, batches, workers: int, pin_memory: bool) -> DataLoader:
    return DataLoader(
        dataset,
        batch_sampler=batches,
        collate_fn=_unchanged,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


class _Shuffled:
    """Batches of keys in an order that depends on (seed, epoch) alone.

    A key carries its epoch, so that workers that live for the whole run need not be told of a new one.
    """

    def __init__(self, samples: int, batch_size: int, seed: int) -> None:
        self.samples, self.batch_size, self.seed, self.epoch = samples, batch_size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def __len__(self) -> int:
        return len(self._starts())

    def __iter__(self) -> Iterator[list[Key]]:
        generator = torch.Generator().manual_seed(derive("order", self.seed, self.epoch))
        order = torch.randperm(self.samples, generator=generator).tolist()
        starts = self._starts()
        for start, stop in zip(starts, [*starts[1:], self.samples], strict=True):
            yield [(self.epoch, index) for index in order[start:stop]]

    def _starts(self) -> list[int]:
        starts = list(range(0, self.samples, self.batch_size))
        # Batch normalisation cannot train on a single image: a last one left over joins the batch before it.
        single = self.batch_size > 1 and len(starts) > 1 and self.samples - starts[-1] == 1
        return starts[:-1] if single else starts


class _Images(Dataset):
    def __init__(self, split: Split, image_size: int, augment: Callable | None, seed: int) -> None:
        self.split, self.image_size, self.augment, self.seed = split, image_size, augment, seed

    def __getitems__(self, keys: list[Key]) -> Batch:
        indices = [index for _, index in keys]
        stored = self.split.images
        stored = stored[indices] if isinstance(stored, np.ndarray) else np.stack([stored[i] for i in indices])
        images = self._augmented(torch.from_numpy(stored), keys) if self.augment else self._centre(stored)
        return images, torch.from_numpy(self.split.targets[indices])

    def _centre(self, stored: np.ndarray) -> Tensor:
        edge = (stored.shape[1] - self.image_size) // 2
        inside = slice(edge, edge + self.image_size)
        return torch.from_numpy(np.ascontiguousarray(stored[:, inside, inside]))

    def _augmented(self, stored: Tensor, keys: list[Key]) -> Tensor:
        images = []
        # The augmentation draws from the CPU generator, which nobody outside shall see moved.
        with torch.random.fork_rng(devices=[]):
            for image, key in zip(stored.permute(0, 3, 1, 2), keys, strict=True):
                torch.default_generator.manual_seed(derive("augmentation", self.seed, *key))
                images.append(self.augment(image).permute(1, 2, 0))
        return torch.stack(images)


def _unchanged(batch: Batch) -> Batch:
    return batch
