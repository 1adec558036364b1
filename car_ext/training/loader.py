"""Batches of stored uint8 images (N, H, W, C) and int64 targets (N,), the same from any number of workers."""

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, get_worker_info

from car_ext.datasets import Split
from car_ext.datasets.reading import centres
from car_ext.errors import InputError, first_line
from car_ext.machine.processes import ALONE, Processes
from car_ext.methods.augment.draws import Keys
from car_ext.methods.samplers import Sampler

# Images, targets and, in training, the keys of the images that their augmentation is drawn by. Of several processes
# each has its part of the images and keys, and the targets of the whole batch.
Batch = tuple[Any, ...]


class Loader(DataLoader):
    """A `DataLoader` whose workers fail with the sentence that the main process would fail with."""

    def __iter__(self) -> Iterator[Batch]:  # type: ignore[override]  # torch promises an iterator of its own
        if not self.num_workers and not self.pin_memory:  # nothing of what torch's iterator does would be of use
            return map(self.dataset.__getitems__, self.batch_sampler)  # type: ignore[attr-defined, arg-type]
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
    split: Split, sampler: Sampler, workers: int, pin_memory: bool, processes: Processes = ALONE
) -> Loader:
    """Batches as `sampler` draws them, with their keys; `begin_epoch` gives those of an epoch.

    Args:
        split: the training images; they come as they are stored, and so do features in their place.
        sampler: draws the batches.
        workers: processes that load; 0 loads in this one.
        pin_memory: for a GPU.
        processes: share out the images of each batch.
    """
    return _loader(_Images(split, None, processes, with_keys=True), _Drawn(sampler), workers, pin_memory)


def begin_epoch(loader: DataLoader, epoch: int, epochs: int) -> Iterator[Batch]:
    """The batches of epoch `epoch`, from 1 to `epochs`, of a `train_loader`."""
    keys = loader.batch_sampler
    assert isinstance(keys, _Drawn)
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
    keys = np.zeros((len(split), 3), np.int64)
    keys[:, 2] = np.arange(len(split))
    batches = [keys[start : start + batch_size] for start in range(0, len(keys), batch_size)]
    return _loader(_Images(split, image_size, processes), batches, workers, pin_memory)


def _loader(dataset: Dataset, batches: Any, workers: int, pin_memory: bool) -> Loader:
    return Loader(
        dataset,
        batch_sampler=batches,
        collate_fn=_unchanged,
        num_workers=workers,
        persistent_workers=workers > 0,
        pin_memory=pin_memory,
    )


class _Drawn:
    """A sampler's batches as keys: each index with what its augmentation is drawn by.

    A key carries its epoch, so that workers that live for the whole run need not be told of a new one, and counts the
    earlier draws of its sample, so that an image drawn again is not augmented the same way. They are counted over the
    whole order of the epoch, which all processes know: the sampler is of one rank.
    """

    def __init__(self, sampler: Sampler) -> None:
        assert sampler.world_size == 1, "a part of the order does not tell how often a sample was drawn"
        self.sampler = sampler

    def set_epoch(self, epoch: int, epochs: int) -> None:
        self.sampler.set_epoch(epoch, epochs)

    def __len__(self) -> int:
        return len(self.sampler)

    def __iter__(self) -> Iterator[Keys]:
        order = np.fromiter(itertools.chain.from_iterable(self.sampler), np.int64, sum(self.sampler.sizes))
        keys = np.stack([np.full(len(order), self.sampler.epoch), earlier(order), order], axis=1)
        yield from np.split(keys, np.cumsum(self.sampler.sizes)[:-1])


def earlier(order: np.ndarray) -> np.ndarray:
    """(N,) int64: how often each of `order` (N,) has come before."""
    by_value = order.argsort(kind="stable")
    ranked = order[by_value]
    begins = np.flatnonzero(np.diff(ranked, prepend=ranked[:1] - 1))
    counts = np.empty_like(by_value)
    counts[by_value] = np.arange(len(order)) - np.repeat(begins, np.diff(begins, append=len(order)))
    return counts


class _Images(Dataset):
    """Parts of a split by keys: images, targets and, where asked for, the keys themselves."""

    def __init__(
        self, split: Split, image_size: int | None, processes: Processes = ALONE, with_keys: bool = False
    ) -> None:
        self.split, self.image_size, self.processes, self.with_keys = split, image_size, processes, with_keys

    def __getitems__(self, keys: Keys) -> Batch | str:
        """A batch; from a worker also the sentence of an `InputError`, which an exception's traceback would bury."""
        if get_worker_info() is None:
            return self._batch(keys)
        try:
            return _shared(self._batch(keys))
        except InputError as error:
            return str(error)

    def _batch(self, keys: Keys) -> Batch:
        targets = torch.from_numpy(self.split.targets[keys[:, 2]])
        keys = keys[[*self.processes.part(range(len(keys)))]]
        images = torch.from_numpy(centres(self.split.images, keys[:, 2], self.image_size))
        return (images, targets, keys) if self.with_keys else (images, targets)


def _shared(batch: Batch) -> Batch:
    """The batch in shared memory, where the worker's queue would put it, too late to tell anyone that it does not fit.

    Raises:
        InputError: it does not.
    """
    try:
        return tuple(item.share_memory_() if isinstance(item, Tensor) else item for item in batch)
    except RuntimeError as error:
        size = sum(item.nbytes for item in batch)
        raise InputError(
            f"a worker cannot hand over a batch of {size / 1e6:.1f} MB through /dev/shm ({first_line(error)}); "
            "use --workers 0, or give the container more of it (docker run --shm-size 8g)."
        ) from error


def _unchanged(batch: Any) -> Any:
    return batch
