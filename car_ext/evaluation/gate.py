"""What a model must reach, and what it may lose against another."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from car_ext.errors import InputError
from car_ext.evaluation.floors import floor
from car_ext.evaluation.losses import Losses
from car_ext.evaluation.outcome import Outcome
from car_ext.evaluation.rules import LEVEL, TESTS
from car_ext.evaluation.verdict import Verdict


@dataclass(frozen=True)
class Gate:
    """What is asked of a model.

    A fall breaks the gate where it is more than allowed and no chance: the test of it, one-sided, has p of at most
    `level`. `p_of_fall` tests scores, McNemar's exact test the overall accuracy and that of a class, with Holm's
    correction where any class may break it. Every line of a gate is tested for itself.

    Attributes:
        limits: as of `parse_require`.
        falls: as of `parse_gate`.
        test: "paired", or "none" where every fall beyond what is allowed breaks the gate.
        level: in (0, 1).

    Raises:
        InputError: another test, or a level outside (0, 1).
    """

    limits: Mapping[str, float] = field(default_factory=dict)
    falls: Mapping[str, float] = field(default_factory=dict)
    test: str = TESTS[0]
    level: float = LEVEL

    def __post_init__(self) -> None:
        if self.test not in TESTS:
            raise InputError(f"--gate-test is {self.test!r}: give {' or '.join(TESTS)}.")
        if not 0 < self.level < 1:
            raise InputError(f"--gate-level is {self.level}: give a fraction between 0 and 1, such as {LEVEL}.")

    def judge(self, outcome: Outcome, first: Outcome | None = None) -> Verdict:
        """What it says of a model; `first` is what falls are counted from.

        Raises:
            InputError: a class that the model does not know, or a score that cannot be tested.
        """
        checks = [floor(name, limit, outcome.summary) for name, limit in self.limits.items()]
        if first is None or not self.falls:
            return Verdict(tuple(checks), None, self.level)
        losses = Losses(first, outcome, self.test == "none", self.level)
        checks += [losses.check(name, allowed) for name, allowed in self.falls.items()]
        return Verdict(tuple(checks), losses.test, self.level)
