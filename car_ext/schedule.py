"""The learning rate: linear warm-up, then half a cosine or a staircase, as a pure function of the step."""

import math
from collections.abc import Sequence


def learning_rate(
    step: int,
    steps: int,
    warmup_steps: float,
    peak: float,
    floor: float,
    drops: Sequence[int] = (),
    factor: float = 1.0,
) -> float:
    """Rate of optimiser step ``step`` (0 .. ``steps`` - 1), between 0 and ``peak``.

    The first ``warmup_steps`` rise in a straight line to ``peak``; the rest follow half a cosine towards
    ``floor``, which the step after the last would reach. With ``drops`` they stay at ``peak`` instead, times
    ``factor`` from each of these steps on.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    if drops:
        return peak * factor ** sum(step >= drop for drop in drops)
    done = (step - warmup_steps) / (steps - warmup_steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
