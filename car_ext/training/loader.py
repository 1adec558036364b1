"""Batches of uint8 images (N, H, W, C) and int64 targets (N,), the same bits from any number of workers."""

import contextlib
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from car_ext.datasets import Split
from car_ext.datasets.reading import centre, centres, stack
from car_ext.errors import InputError, first_line
from car_ext.machine.processes import ALONE, Processes
from car_ext.methods.augment.images import image_augmentation
from car_ext.methods.samplers import Sampler
from car_ext.seeds import derive

Key = tuple[int, int, int]  # (epoch, how often the epoch has drawn the sample before, index of the sample)
# Images, targets and, where asked for, further views (N, V, H, W, C) of the images. Of several processes each has its
# part of the images and views, and the targets of the whole batch.
Batch = tuple[Tensor, ...]


class Loader(DataLoader):
    """A `DataLoader` whose workers fail with the sentence that the main process would fail with."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch promises an iterator of its own
        return _checked(super().__iter__())  # begun here and not at the first batch: it draws a seed


def _checked(batches: Iterator[Batch | str]) -> Iterator[Batch]:
    for batch in batches:
        if isinstance(batch, str):
            raise InputError(batch)
        yield batch


@contextlib.contextmanager
def alive_workers() -> Iterator[None]:
    """For the time in which there may be workers: torch notices the death of one anywhere, also within a step.

    Raises:
        InputError: a worker was killed.
    """
    with _worker_deaths(), _worker_deaths():  # the signal of the death may come while it is being reported
        yield


@contextlib.contextmanager
def _worker_deaths() -> Iterator[None]:
    try:
        yield
    except (RuntimeError, ConnectionError, EOFError) as error:  # the latter: it died while it handed a batch over
        if isinstance(error, RuntimeError) and not str(error).startswith("DataLoader worker"):
            raise
        raise InputError(
            f"a worker that loads images has died ({first_line(error)}), most likely for want of memory; "
            "use fewer --workers, or --workers 0 to load in the main process."
        ) from error


def train_loader(
    split: Split,
    image_size: int | None,
    augment: str,
    sampler: Sampler,
    workers: int,
    pin_memory: bool,
    views: int = 0,
    view_augment: str = "simclr",
    processes: Processes = ALONE,
) -> Loader:
    """Batches as `sampler` draws them; `begin_epoch` gives those of an epoch.

    Args:
        split: the training images.
        image_size: the side of every image that comes out; None: what the split holds (features, say), as it is.
        augment: a name of `image_augmentation`.
        sampler: draws the batches.
        workers: processes that load; 0 loads in this one.
        pin_memory: for a GPU.
        views: how many more of each image a batch has.
        view_augment: by what they are augmented.
        processes: share out the images of each batch.
    """
    augmentation = image_augmentation(augment, image_size) if image_size else None
    view = image_augmentation(view_augment, image_size) if views and image_size else None
    others = [] if view is None else [view] * views
    images = _Images(split, image_size, augmentation, sampler.seed, others, processes)
    return _loader(images, _Keys(sampler), workers, pin_memory)


def begin_epoch(loader: DataLoader, epoch: int, epochs: int) -> Iterator[Batch]:
    """The batches of epoch `epoch`, from 1 to `epochs`, of a `train_loader`."""
    keys = loader.batch_sampler
    assert isinstance(keys, _Keys)
    keys.set_epoch(epoch, epochs)
    return iter(loader)


def ordered_loader(
    split: Split,
    image_size: int | None,
    batch_size: int,
    workers: int,
    pin_memory: bool,
    processes: Processes = ALONE,
) -> Loader:
    """Every image once, in order: the centre of the stored image, `image_size` square; as it is where None."""
    keys = [(0, 0, index) for index in range(len(split))]
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return _loader(_Images(split, image_size, None, 0, processes=processes), batches, workers, pin_memory)


def _loader(dataset: Dataset, batches: Any, workers: int, pin_memory: bool) -> Loader:
    return Loader(
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
        processes: Processes = ALONE,
    ) -> None:
        self.split, self.image_size, self.augment, self.seed = split, image_size, augment, seed
        self.view_augments, self.processes = view_augments, processes

    def __getitems__(self, keys: list[Key]) -> Batch | str:
        """A batch; from a worker also the sentence of an `InputError`, which an exception's traceback would bury."""
        if get_worker_info() is None:
            return self._batch(keys)
        try:
            return _shared(self._batch(keys))
        except InputError as error:
            return str(error)

    def _batch(self, keys: list[Key]) -> Batch:
        targets = torch.from_numpy(self.split.targets[[index for _, _, index in keys]])
        keys = [*self.processes.part(keys)]
        indices = [index for _, _, index in keys]
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


def _shared(batch: Batch) -> Batch:
    """The batch in shared memory, where the worker's queue would put it, too late to tell anyone that it does not fit.

    Raises:
        InputError: it does not.
    """
    try:
        return tuple(tensor.share_memory_() for tensor in batch)
    except RuntimeError as error:
        size = sum(tensor.nbytes for tensor in batch)
        raise InputError(
            f"a worker cannot hand over a batch of {size / 1e6:.1f} MB through /dev/shm ({first_line(error)}); "
            "use --workers 0, or give the container more of it (docker run --shm-size 8g)."
        ) from error


def _unchanged(batch: Any) -> Any:
    return batch
