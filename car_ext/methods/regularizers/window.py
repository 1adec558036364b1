"""CAR's moving average for many classes: the columns of the classes that were seen lately, and no K x K matrix."""

import math
from typing import Any, NamedTuple

import torch
import torch.distributed as dist
from torch import Tensor, nn

from car_ext.methods.regularizers.ranks import Columns
from car_ext.ops.lanczos import top_singular
from car_ext.ops.reference import surrogate

CHUNK = 1 << 22  # numbers worked on at a time
FORGOTTEN = 2.0**-24  # what is left of a column that float32 no longer tells from none
HELD = 24  # batches that there is room for where columns do not shrink
BLIND = 0.01  # share of the all-ones vector in a start: it overlaps the top vector of every nonnegative matrix


class Form(NamedTuple):
    """Of the surrogate, as of `reference.surrogate`."""

    gamma: float
    temperature: float
    softmax_over_all: bool
    detach_gate: bool


class Samples(NamedTuple):
    """A batch without what takes no part.

    Attributes:
        logits: (B, K).
        classes: (B,) int64.
        masses: (B,) positive weights.
    """

    logits: Tensor
    classes: Tensor
    masses: Tensor

    def chunks(self) -> list[slice]:
        """Slices of the samples, each of about `CHUNK` logits."""
        size = max(1, CHUNK // self.logits.shape[1])
        return [slice(at, at + size) for at in range(0, len(self.classes), size)]

    def columns(self, form: Form) -> Columns:
        """The numerators of their confusion matrix."""
        labels, member = self.classes.unique(return_inverse=True)
        masses = self.masses.new_zeros(len(labels)).index_add_(0, member, self.masses)
        sums = self.logits.new_zeros(len(labels), self.logits.shape[1])
        for part in self.chunks():
            values = surrogate(self.logits[part], self.classes[part], *form)
            sums.index_add_(0, member[part], values * self.masses[part, None])
        return Columns(labels, sums, masses)

    def gradient(self, left: Tensor, upstream: Tensor, form: Form) -> Tensor:
        """(B, K): of every sample `upstream` (B,) times d (v . left) / d logits."""
        found = torch.empty_like(self.logits)
        for part in self.chunks():
            with torch.enable_grad():
                leaf = self.logits[part].detach().requires_grad_()
                projected = surrogate(leaf, self.classes[part], *form) @ left
            (found[part],) = torch.autograd.grad(projected, leaf, upstream[part])
        return found


class WindowAverage(nn.Module):
    """C^_t of `CAR`, a row for each class that was seen in the last `window` batches.

    Where absent classes decay, one that was absent that long has at most `beta ** window` of its column left. The
    default window makes that less than float32 resolves, so the average is the dense one. Where they are held, columns
    do not shrink; there is room for those of `window` batches, and then the class that was absent longest makes way.
    Memory is (R, K) numbers, R at most `window` times the samples of a batch, and at most K; R is the rank as well.

    Attributes:
        rows: (R, K) columns of C^, each of the class in `classes`, as they were when it was last seen.
        classes: (R,) int64, -1 for a free row.
        seen: (R,) int64, in which batch, from 1, the class was last seen.
        updates: (K,) int64, how many batches have entered each class's column.
        batches: int64 0-dim, so far.
        evicted: int64 0-dim, how many held columns had to make way.
        direction: (K,) left singular vector, where the next iteration starts.

    Args:
        num_classes: K.
        beta, start_from_first_batch, hold_absent, debias: as of `CAR`.
        window: in batches; None is the smallest with `beta ** window` at most 2^-24, and `HELD` where columns are held.
    """

    rows: Tensor
    classes: Tensor
    seen: Tensor
    updates: Tensor
    batches: Tensor
    evicted: Tensor
    direction: Tensor

    def __init__(
        self,
        num_classes: int,
        beta: float,
        start_from_first_batch: bool,
        hold_absent: bool,
        debias: bool,
        window: int | None = None,
    ) -> None:
        super().__init__()
        self.beta, self.start_from_first_batch = beta, start_from_first_batch
        self.hold_absent, self.debias = hold_absent, debias
        fading = math.ceil(math.log(FORGOTTEN) / math.log(beta)) if beta else 1
        self.window = window or (HELD if hold_absent else fading)
        self.register_buffer("rows", torch.zeros(0, num_classes))
        self.register_buffer("classes", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("seen", torch.zeros(0, dtype=torch.int64))
        self.register_buffer("updates", torch.zeros(num_classes, dtype=torch.int64))
        self.register_buffer("batches", torch.zeros((), dtype=torch.int64))
        self.register_buffer("evicted", torch.zeros((), dtype=torch.int64))
        self.register_buffer("direction", torch.full((num_classes,), num_classes**-0.5))

    @torch.no_grad()
    def forward(
        self,
        samples: Samples,
        class_weights: Tensor,
        form: Form,
        tolerance: float,
        max_iterations: int,
        keep: bool,
        group: Any = None,
    ) -> tuple[Tensor, Tensor]:
        """sigma = || C^_t Lambda ||_2 (0-dim) and d sigma / d logits (B, K) of a batch; `keep` moves the average.

        With a `group` of processes the batch is that of all, and the gradient is multiplied by their number, by which
        `DistributedDataParallel` will divide it.
        """
        own = samples.columns(form)
        labels, columns, masses = own if group is None else own.over(group)
        updates = self.updates.clone()
        updates[labels if self.hold_absent else slice(None)] += 1
        first = (updates[labels] == 1) & self.start_from_first_batch
        take = torch.where(first, 1.0, 1 - self.beta).to(self.rows.dtype)
        held = self._kept(self.batches + 1)
        row = self._row_of(labels)
        there = row >= 0
        columns.mul_((take / masses)[:, None])
        columns[there] += self.rows[row[there]] * (self.beta if self.hold_absent else held[row[there], None])
        held[row[there]] = 0  # what these had is in `columns` now

        weights = class_weights / self._share(updates)
        old, new, used = held * weights[self.classes], weights[labels], self._used

        def gram(vector: Tensor) -> Tensor:
            return _gram(self.rows[:used], old[:used], vector) + _gram(columns, new, vector)

        start = self.direction + BLIND * len(self.direction) ** -0.5
        sigma, left = top_singular(gram, start, tolerance, max_iterations)
        # d sigma / d C^_j = left right_j weight_j, and sigma right_j = weight_j (C^_j . left).
        # A first batch is a constant.
        factors = new**2 * (columns @ left) * take * ~first / masses
        ranks = 1 if group is None else dist.get_world_size(group)
        factors = torch.where(sigma > 0, factors / sigma, 0.0) * ranks
        upstream = samples.masses * factors[torch.searchsorted(labels, samples.classes)]
        gradient = samples.gradient(left, upstream, form)
        if keep:
            self.updates.copy_(updates)
            self.batches += 1
            # By the samples, whose number batches share: room that grows is a copy.
            self._make_room(min(len(self.updates), self.window * max(len(labels), ranks * len(samples.classes))))
            self._write(labels, row, columns)
            self.direction.copy_(left)
        return sigma, gradient

    def matrix(self) -> Tensor:
        """C^_t (K, K), debiased where that is on; row = predicted, column = true."""
        average = self.rows.new_zeros(len(self.updates), len(self.updates))
        taken = self.classes >= 0
        average[self.classes[taken]] = (self._kept(self.batches)[:, None] * self.rows)[taken]
        return (average / self._share(self.updates)[:, None]).T

    def _kept(self, batch: Tensor) -> Tensor:
        """(R,): the share of each row that is left in a batch that does not hold its class; 0 of a free row."""
        age = torch.zeros_like(self.seen) if self.hold_absent else batch - self.seen
        return torch.where((self.classes >= 0) & (age <= self.window), self.beta ** age.to(self.rows.dtype), 0.0)

    def _share(self, updates: Tensor) -> Tensor:
        """(K,): what each column is divided by."""
        if not self.debias:
            return torch.ones_like(self.direction)
        return torch.where(updates > 0, 1 - self.beta ** updates.to(self.direction.dtype), 1.0)

    def _row_of(self, labels: Tensor) -> Tensor:
        """(C,): the row of each class, -1 where it has none."""
        rows = torch.full_like(self.updates, -1)
        taken = torch.nonzero(self.classes >= 0)[:, 0]
        rows[self.classes[taken]] = taken
        return rows[labels]

    def _write(self, labels: Tensor, row: Tensor, columns: Tensor) -> None:
        """Puts a batch's columns into their classes' rows, or free ones, or those of the classes absent longest."""
        self.seen[row[row >= 0]] = self.batches
        if not self.hold_absent:
            self.classes[self.batches - self.seen >= self.window] = -1
        missing = torch.nonzero(row < 0)[:, 0]
        age = self.batches - torch.where(self.classes < 0, -1, self.seen)  # a free row before any other
        chosen = age.argsort(descending=True, stable=True)[: len(missing)]
        lost = self.classes[chosen]
        self.evicted += (lost >= 0).sum()
        self.updates[lost[lost >= 0]] = 0
        row = row.index_copy(0, missing, chosen)
        self.rows[row], self.classes[row], self.seen[row] = columns, labels, self.batches

    def _make_room(self, rows: int) -> None:
        """Lets there be this many rows, which take no memory on a CPU before they are written."""
        more = rows - len(self.classes)
        if more > 0:
            new = self.rows.new_zeros(more, self.rows.shape[1])
            self.rows = torch.cat([self.rows, new]) if len(self.rows) else new
            self.classes = torch.cat([self.classes, self.classes.new_full((more,), -1)])
            self.seen = torch.cat([self.seen, self.seen.new_zeros(more)])

    @property
    def _used(self) -> int:
        """Rows up to the last that is taken."""
        return int(torch.nonzero(self.classes >= 0).max()) + 1 if (self.classes >= 0).any() else 0

    def _save_to_state_dict(self, destination, prefix, keep_vars):
        super()._save_to_state_dict(destination, prefix, keep_vars)
        for name in ("rows", "classes", "seen"):
            destination[prefix + name] = destination[prefix + name][: self._used]

    def _load_from_state_dict(self, state_dict, prefix, *others):
        for name in ("rows", "classes", "seen"):
            if (saved := state_dict.get(prefix + name)) is not None:
                setattr(self, name, getattr(self, name).new_empty(saved.shape))
        super()._load_from_state_dict(state_dict, prefix, *others)


def _gram(rows: Tensor, factors: Tensor, vector: Tensor) -> Tensor:
    """`M M^T vector`, (K,), of the M whose columns are the rows (R, K) times factors (R,); each row is read once."""
    total, size = torch.zeros_like(vector), max(1, CHUNK // len(vector))
    for part, factor in zip(rows.split(size), factors.split(size), strict=True):
        total.addmv_(part.T, factor**2 * (part @ vector))
    return total
