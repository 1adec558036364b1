"""The learning rate: linear warm-up, then half a cosine, as a pure function of the step."""

import math


def learning_rate(step: int, steps: int, warmup_steps: float, peak: float, floor: float) -> float:
    """Rate of optimiser step ``step`` (0 .. ``steps`` - 1), between 0 and ``peak``.

    The first ``warmup_steps`` rise in a straight line to ``peak``; the rest follow half a cosine towards
    ``floor``, which the step after the last would reach.
    """
    if step < warmup_steps:
        return peak * (step + 1) / (warmup_steps + 1)
    done = (step - warmup_steps) / (steps - warmup_steps)
    return floor + (peak - floor) * (1 + math.cos(math.pi * done)) / 2
