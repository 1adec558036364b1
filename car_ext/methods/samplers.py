"""The order in which an epoch visits the training set: a pure function of (seed, epoch), and so are all its shards."""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.methods.registry import build, register
from car_ext.methods.sources import DECOUPLING
from car_ext.priors import check_class_counts
from car_ext.seeds import derive


def build_sampler(
    spec: str, targets: Sequence[int] | np.ndarray, batch_size: int, seed: int, *, rank: int = 0, world_size: int = 1
) -> "Sampler":
    """A sampler by name, such as `class_balanced` or `class_aware:num_samples_cls=2`.

    Args:
        spec: `NAME[:option=value,...]`.
        targets: (N,) labels 0 .. K-1 of the training set.
        batch_size: samples a batch and rank.
        seed: with the epoch, all that the order depends on.
        rank: which of the shards, 0 .. world_size - 1.
        world_size: how many shards.

    Raises:
        InputError: an unknown name or option, fewer samples than ranks, a class without a sample.
    """
    return build("sampler", spec, targets, batch_size, seed, rank, world_size)


class Sampler:
    """Batches of indices into the training set; N of them an epoch, the last incomplete batch included.

    Call `set_epoch` before each epoch. Every rank takes its part of the batches that a single one with
    `world_size * batch_size` would see, the last one split as evenly as can be. Batch normalisation cannot train on
    a single image: if a rank would get fewer than two of the last batch, that joins the batch before it.
    """

    def __init__(
        self, targets: Sequence[int] | np.ndarray, batch_size: int, seed: int, rank: int = 0, world_size: int = 1
    ) -> None:
        self.targets = torch.tensor(np.asarray(targets, dtype=np.int64))
        samples, together = len(self.targets), batch_size * world_size
        if batch_size < 1 or not 0 <= rank < world_size:
            raise InputError(
                f"batch_size is {batch_size}, rank {rank} and world_size {world_size}: "
                "give a batch_size of at least 1 and a rank from 0 to world_size - 1"
            )
        if samples < world_size:
            raise InputError(f"{samples} samples cannot be shared by {world_size} ranks; use fewer ranks")
        self.seed, self.rank, self.world_size = seed, rank, world_size
        self.epoch, self.epochs = 0, 1
        starts = list(range(0, samples, together))
        if len(starts) > 1 and samples - starts[-1] < world_size * min(batch_size, 2):
            starts.pop()
        self._bounds = [*starts, samples]

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """`epoch` counts from 1 to `epochs`."""
        self.epoch, self.epochs = epoch, epochs

    @property
    def sizes(self) -> list[int]:
        """Samples of each batch of an epoch, over all ranks."""
        return [stop - start for start, stop in pairwise(self._bounds)]

    def __len__(self) -> int:
        return len(self._bounds) - 1

    def __iter__(self) -> Iterator[list[int]]:
        order = self._order(torch.Generator().manual_seed(derive("order", self.seed, self.epoch))).tolist()
        for start, stop in pairwise(self._bounds):
            first, last = ((stop - start) * edge // self.world_size for edge in (self.rank, self.rank + 1))
            yield order[start + first : start + last]

    def _order(self, generator: torch.Generator) -> Tensor:
        """The N indices of this epoch."""
        raise NotImplementedError


@register(
    "sampler",
    "instance",
    title="Instance-balanced sampling",
    source=DECOUPLING,
    formula="each sample once",
    published="ImageNet-LT, ResNeXt-50: 44.4",
)
class InstanceBalanced(Sampler):
    """Each sample once, shuffled."""

    def _order(self, generator: torch.Generator) -> Tensor:
        return _shuffled(len(self.targets), generator)


class _ByClass(Sampler):
    """N draws with replacement: a class with probability q_c, then one of its samples, each as likely."""

    def __init__(self, *shared) -> None:
        super().__init__(*shared)
        self.class_counts = torch.from_numpy(check_class_counts(np.bincount(self.targets.numpy())))

    def _class_weights(self) -> Tensor:
        """(K,) float64, proportional to q."""
        raise NotImplementedError

    def _order(self, generator: torch.Generator) -> Tensor:
        weights = (self._class_weights() / self.class_counts)[self.targets]
        return torch.multinomial(weights, len(self.targets), replacement=True, generator=generator)


class _PowerOfCount(_ByClass):
    power: float

    def _class_weights(self) -> Tensor:
        return self.class_counts.double() ** self.power


@register(
    "sampler",
    "class_balanced",
    title="Class-balanced sampling",
    source=DECOUPLING,
    formula="q_c = 1 / K",
    published="ImageNet-LT, ResNeXt-50, trained jointly: 45.1",
)
class ClassBalanced(_PowerOfCount):
    """Every class as likely."""

    power = 0.0


@register(
    "sampler",
    "square_root",
    title="Square-root sampling",
    source=DECOUPLING,
    formula="q_c ~ n_c^(1/2)",
    published="ImageNet-LT, ResNeXt-50, trained jointly: 46.8",
)
class SquareRoot(_PowerOfCount):
    """Half way, on a logarithmic scale, from instance- to class-balanced."""

    power = 0.5


@register(
    "sampler",
    "reverse",
    title="Reversed sampling",
    source="Zhou et al. (BBN), CVPR 2020",
    formula="q_c ~ 1 / n_c",
)
class Reverse(_PowerOfCount):
    """The rarest class is the most likely, by as much as the most frequent one was."""

    power = -1.0


@register(
    "sampler",
    "progressive",
    title="Progressively balanced sampling",
    source=DECOUPLING,
    formula="q_c = (1 - t/T) n_c/N + (t/T) / K at epoch t of T",
    published="ImageNet-LT, ResNeXt-50, trained jointly: 47.2",
    notes="t counts from 1, so that the last epoch is class-balanced and the first not quite instance-balanced",
)
class Progressive(_ByClass):
    """From instance- to class-balanced, linearly over the epochs."""

    def _class_weights(self) -> Tensor:
        balanced, counts = self.epoch / self.epochs, self.class_counts.double()
        return (1 - balanced) * counts / counts.sum() + balanced / len(counts)


@register(
    "sampler",
    "drs",
    title="Deferred re-sampling (DRS)",
    source="Cao et al. (LDAM), NeurIPS 2019",
    formula="each sample once up to epoch start*T, then q_c = 1 / K",
    notes="start 0.8 is epoch 160 of 200; the authors' published sampler never reached their loader",
)
class Deferred(ClassBalanced):
    """Instance-balanced for the first `start` of all epochs, then class-balanced."""

    def __init__(self, *shared, start: float = 0.8) -> None:
        super().__init__(*shared)
        if not 0 <= start <= 1:
            raise InputError(f"start of sampler 'drs' is {start:g}: give the fraction of the epochs, from 0 to 1")
        self.start = start

    def _order(self, generator: torch.Generator) -> Tensor:
        if self.epoch > round(self.start * self.epochs):
            return super()._order(generator)
        return _shuffled(len(self.targets), generator)


@register(
    "sampler",
    "class_aware",
    title="Class-aware sampling",
    source="Shen et al. (Relay Backpropagation), ECCV 2016",
    formula="classes in shuffled cycles, num_samples_cls consecutive samples of each, from shuffled cycles of its own",
    notes="an epoch is N draws; published code draws K max_c n_c and goes on with its cycles in the next epoch",
)
class ClassAware(_ByClass):
    """As even over classes, and over the samples of a class, as a shuffled order can be.

    `num_samples_cls` samples of a class follow one another, 4 in Kang et al. (ICLR 2020).
    """

    def __init__(self, *shared, num_samples_cls: int = 4) -> None:
        super().__init__(*shared)
        if num_samples_cls < 1:
            raise InputError(f"num_samples_cls of sampler 'class_aware' is {num_samples_cls}: give at least 1")
        self.num_samples_cls = num_samples_cls
        self._members = self.targets.argsort(stable=True).split(self.class_counts.tolist())

    def _order(self, generator: torch.Generator) -> Tensor:
        samples, classes, together = len(self.targets), len(self.class_counts), self.num_samples_cls
        visits = torch.arange(-(-samples // together))
        rounds = visits // classes
        draws = together * (int(rounds[-1]) + 1)
        classes_visited = _shuffled(classes, generator, len(visits))
        drawn = torch.stack([members[_shuffled(len(members), generator, draws)] for members in self._members])
        return drawn.view(classes, -1, together)[classes_visited, rounds].flatten()[:samples]


def _shuffled(length: int, generator: torch.Generator, draws: int | None = None) -> Tensor:
    """(draws,) of 0 .. length-1: all of them in a random order, and in a new one each time round; once where None."""
    rounds = 1 if draws is None else -(-draws // length)
    return torch.cat([torch.randperm(length, generator=generator) for _ in range(rounds)])[:draws]
