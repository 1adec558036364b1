"""One seed of a run becomes many, unrelated to one another."""

import numpy as np


def derive(purpose: str, *numbers: int) -> int:
    """A 64-bit seed from several numbers, unrelated to that of another purpose."""
    return int(np.random.SeedSequence([*purpose.encode(), *numbers]).generate_state(1, np.uint64)[0])
