"""Batches of uint8 images (N, H, W, C) and int64 targets (N,), the same bits from any number of workers."""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from car_ext.datasets import Split
from car_ext.datasets.reading import centre, centres, stack
from car_ext.methods.augment.images import image_augmentation
from car_ext.methods.samplers import Sampler
from car_ext.seeds import derive

Key = tuple[int, int, int]  # (epoch, how often the epoch has drawn the sample before, index of the sample)
Batch = tuple[Tensor, ...]  # images, targets and, where asked for, further views (N, V, H, W, C) of the images


def train_loader(
    split: Split,
    image_size: int | None,
    augment: str,
    sampler: Sampler,
    workers: int,
    pin_memory: bool,
    views: int = 0,
    view_augment: str = "simclr",
) -> DataLoader:
    """Batches as `sampler` draws them; `begin_epoch` gives those of an epoch.

    `augment` is a name of `image_augmentation`; every image comes out `image_size` square. Where that is
    None, what the split holds (features, say) comes out as it is. With `views` a batch has as many more of each
    image, augmented by `view_augment`.
    """
    augmentation = image_augmentation(augment, image_size) if image_size else None
    view = image_augmentation(view_augment, image_size) if views and image_size else None
    others = [] if view is None else [view] * views
    return _loader(_Images(split, image_size, augmentation, sampler.seed, others), _Keys(sampler), workers, pin_memory)


def begin_epoch(loader: DataLoader, epoch: int, epochs: int) -> Iterator[Batch]:
    """The batches of epoch `epoch`, from 1 to `epochs`, of a `train_loader`."""
    keys = loader.batch_sampler
    assert isinstance(keys, _Keys)
    keys.set_epoch(epoch, epochs)
    return iter(loader)


def ordered_loader(split: Split, image_size: int | None, batch_size: int, workers: int, pin_memory: bool) -> DataLoader:
    """Every image once, in order: the centre of the stored image, `image_size` square; as it is where None."""
    keys = [(0, 0, index) for index in range(len(split))]
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


class _Keys:
    """A sampler's batches, each index with what its augmentation is seeded by.

    A key carries its epoch, so that workers that live for the whole run need not be told of a new one, and counts the
    earlier draws of its sample, so that an image drawn again is not augmented the same way.
    """

    def __init__(self, sampler: Sampler) -> None:
        self.sampler = sampler

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.sampler.set_epoch(epoch, epochs)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[list[Key]]:
        drawn: Counter[int] = Counter()
        for batch in self.sampler:
            keys = []
            for index in batch:
                keys.append((self.sampler.epoch, drawn[index], index))
                drawn[index] += 1
            yield keys


class _Images(Dataset):
    def __init__(
        self,
        split: Split,
        image_size: int | None,
        augment: Callable | None,
        seed: int,
        view_augments: Sequence[Callable] = (),
    ) -> None:
        self.split, self.image_size, self.augment, self.seed = split, image_size, augment, seed
        self.view_augments = view_augments

    def __getitems__(self, keys: list[Key]) -> Batch:
        indices = [index for _, _, index in keys]
        targets = torch.from_numpy(self.split.targets[indices])
        if not self.augment and not self.view_augments:
            return torch.from_numpy(centres(self.split.images, indices, self.image_size)), targets
        stored = stack(self.split.images, indices)
        pixels = torch.from_numpy(stored)
        if self.augment:
            images = self._augmented(pixels, keys, self.augment, "augmentation")
        else:
            images = torch.from_numpy(centre(stored, self.image_size))
        if not self.view_augments:
            return images, targets
        views = [self._augmented(pixels, keys, augment, f"view {v}") for v, augment in enumerate(self.view_augments)]
        return images, targets, torch.stack(views, dim=1)

    def _augmented(self, stored: Tensor, keys: list[Key], augment: Callable, purpose: str) -> Tensor:
        images = []
        # The augmentation draws from the CPU generator, which nobody outside shall see moved.
        with torch.random.fork_rng(devices=[]):
            for image, (epoch, again, index) in zip(stored.permute(0, 3, 1, 2), keys, strict=True):
                numbers = (epoch, index, again) if again else (epoch, index)
                torch.default_generator.manual_seed(derive(purpose, self.seed, *numbers))
                images.append(augment(image).permute(1, 2, 0))
        return torch.stack(images)


def _unchanged(batch: Any) -> Any:
    return batch
