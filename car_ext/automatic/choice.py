"""Choosing among heads by predictions of images that they have not seen."""

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from car_ext.automatic.goal import Goal, Measured, Resampling
from car_ext.automatic.heads import Linear, mean_of
from car_ext.methods.offsets import FITS, LARGEST_LOGITS

MOST = 5  # heads that are averaged
SPREAD = 3.0  # standard deviation that logits are brought to before they are averaged
PLAIN = "none"


@dataclass(frozen=True)
class Candidate:
    """A head and what its twins of the folds say of the images that they have not seen.

    Attributes:
        name: of the table.
        logits: (M, K) float32 of the measured images.
        factor: what the head's own logits are multiplied by to be these.
    """

    name: str
    logits: np.ndarray
    factor: float = 1.0

    def scaled(self) -> "Candidate":
        """With logits of one spread, which no prediction notices."""
        centred = self.logits - self.logits.mean(axis=1, keepdims=True)
        factor = SPREAD / max(float(centred.std()), 1e-12)
        return Candidate(self.name, self.logits * np.float32(factor), factor)


@dataclass(frozen=True)
class Row:
    """One line of what was tried.

    Attributes:
        name: of the head.
        offsets: how its offsets were fitted, or "none".
        measured: of its predictions; offsets were fitted on other folds than those they are measured on.
        score: of the goal, shrunken.
        error: standard error of its difference to the best row.
    """

    name: str
    offsets: str
    measured: Measured
    score: float
    error: float = 0.0


@dataclass(frozen=True)
class Choice:
    """What was chosen.

    Attributes:
        members: names of the heads whose mean it is, each with what its logits are multiplied by.
        offsets: how its offsets were fitted.
        values: (K,) the offsets.
        row: its line.
        rows: of all that was tried, the best first.
        without: that of the plain cross-entropy, or the first candidate, to compare with.
    """

    members: dict[str, float]
    offsets: str
    values: np.ndarray
    row: Row
    rows: tuple[Row, ...]
    without: Row

    @property
    def name(self) -> str:
        what = f"mean of {' and '.join(self.members)}" if len(self.members) > 1 else next(iter(self.members))
        return what if self.offsets == PLAIN else f"{what}, {self.offsets} offsets"

    def head(self, finals: Mapping[str, Linear]) -> Linear:
        """The chosen head, of its members fitted on all training images."""
        return mean_of([finals[name].times(factor) for name, factor in self.members.items()]).plus(self.values)


class Chooser:
    """Measures candidates on the same images.

    Args:
        targets: (M,) labels of the measured images.
        fold: (M,) in which fold each was held out; of a single one, offsets are fitted on half of its groups and
            measured on the others.
        groups: (M,) numbers.
        class_groups: (K,) groups of training images.
        goal: of the choice.
        seed: of the bootstrap.
    """

    def __init__(
        self,
        targets: np.ndarray,
        fold: np.ndarray,
        groups: np.ndarray,
        class_groups: np.ndarray,
        goal: Goal,
        seed: int = 0,
    ) -> None:
        self.targets, self.goal, self.classes = targets, goal, len(class_groups)
        several = len(np.unique(fold)) > 1
        self._parts = fold if several else np.unique(groups, return_inverse=True)[1] % 2
        self._resampling = Resampling(targets, groups, self.classes, seed)
        self.measured = np.bincount(targets, minlength=self.classes) > 0
        self._groups = class_groups
        self._fits = [PLAIN, *FITS] if targets.size * self.classes <= LARGEST_LOGITS else [PLAIN]

    def choose(self, candidates: Sequence[Candidate]) -> Choice:
        """The mean of the heads that are as good as the best, with the offsets that suit it.

        Every candidate is measured as it is and with minimax offsets. Those within one standard error of the best, at
        most five, are averaged: which of them is first is chance, their mean is not, and it is one linear layer all the
        same. Of the mean, each kind of offsets is measured: the better of none and minimax is taken, or another that
        beats it by more than one standard error. Where the first candidate, as it is, is within one standard error of
        that, it is taken in its place: it is the simplest.
        """
        scaled = [candidate.scaled() for candidate in candidates]
        quick = self._fits[:2]
        rows = [self._row(candidate, how) for candidate in scaled for how in quick]
        plain = rows[0]
        best: dict[str, Row] = {}
        for row in rows:
            if row.name not in best or row.score > best[row.name].score:
                best[row.name] = row
        falling = sorted(best.values(), key=lambda row: -row.score)
        top = falling[0]
        errors = {row.name: self._error(row, top) for row in falling}
        close = [row.name for row in falling if top.score - row.score <= errors[row.name]][:MOST]
        members = [candidate for candidate in scaled if candidate.name in close]
        mean = self._mean(members)
        known = {(row.name, row.offsets): row for row in rows}
        of_mean = [known.get((mean.name, how)) or self._row(mean, how) for how in self._fits]
        chosen = max(of_mean, key=lambda row: row.score)
        simple = max(of_mean[: len(quick)], key=lambda row: row.score)  # none or minimax, unless others are better
        if chosen.score - simple.score <= self._error(simple, chosen):
            chosen = simple
        if chosen.score - plain.score <= self._error(plain, chosen):  # nothing is gained that could not be chance
            chosen, members, mean = plain, scaled[:1], scaled[0]
        values = self._offsets(mean.logits, self.targets, chosen.offsets)
        every = {id(row): row for row in (*rows, *of_mean)}.values()
        told = [dataclasses.replace(row, error=self._error(row, chosen)) for row in every]
        return Choice(
            {member.name: member.factor for member in members},
            chosen.offsets,
            values,
            chosen,
            tuple(sorted(told, key=lambda row: -row.score)),
            plain,
        )

    def _mean(self, members: Sequence[Candidate]) -> Candidate:
        if len(members) == 1:
            return members[0]
        logits = sum(member.logits for member in members) / np.float32(len(members))
        return Candidate(f"mean of {len(members)} heads", np.asarray(logits))

    def _row(self, candidate: Candidate, how: str) -> Row:
        predictions = np.empty_like(self.targets)
        for number in np.unique(self._parts):
            own = self._parts == number
            offsets = self._offsets(candidate.logits[~own], self.targets[~own], how)
            predictions[own] = (candidate.logits[own] + offsets.astype(np.float32)).argmax(axis=1)
        measured = Measured.of(predictions == self.targets, self.targets, self.classes, self._resampling)
        return Row(candidate.name, how, measured, measured.score(self.goal))

    def _offsets(self, logits: np.ndarray, targets: np.ndarray, how: str) -> np.ndarray:
        """(K,); of a class without a measured image what classes of as few groups get: the prior's."""
        if how == PLAIN or not len(targets):
            return np.zeros(self.classes)
        found = FITS[how](logits, targets)
        unseen = ~self.measured
        if unseen.any() and (~unseen).sum() > 2:
            # Offsets against log groups, a line through the measured classes: what the prior decides, no image can.
            x = np.log(self._groups.clip(1))
            slope, start = np.polyfit(x[~unseen], found[~unseen], 1)
            found = np.where(unseen, np.minimum(slope, 0) * x + start, found)
        return found

    def _error(self, row: Row, other: Row) -> float:
        """Standard error of the difference of two scores, over images or groups drawn anew."""
        if row is other:
            return 0.0
        goal = self.goal
        return float(np.std(row.measured.drawn_scores(goal) - other.measured.drawn_scores(goal), ddof=1))
