"""How long a choice may take."""

import math
import sys
import time


class Clock:
    """Seconds that are left, and a line on stderr for each thing that is done.

    Args:
        seconds: that all may take; None without a limit.
        shown: whether to print.
    """

    def __init__(self, seconds: float | None, shown: bool = True) -> None:
        self.seconds, self._shown = seconds, shown
        self._start = time.perf_counter()

    @property
    def spent(self) -> float:
        return time.perf_counter() - self._start

    @property
    def left(self) -> float:
        return math.inf if self.seconds is None else self.seconds - self.spent

    def tell(self, text: str) -> None:
        if self._shown:
            print(f"{self.spent:6.0f} s  {text}", file=sys.stderr, flush=True)
