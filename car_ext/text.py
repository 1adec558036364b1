"""Numbers and names as text."""

from collections.abc import Sequence
from pathlib import Path


def percent(mean: float | None, deviation: float | None = None) -> str:
    """A fraction in per cent with one decimal: `84.3`, `84.3 ± 1.2`, or `-` where undefined."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def printable(name: str) -> str:
    """A name for a terminal or a page: without control characters, changes of direction or broken Unicode."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """The last part of every path, or as many of the last as tell them all apart."""
    parts = [Path(path).absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*own[-length:])) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
