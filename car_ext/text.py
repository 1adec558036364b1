"""Numbers and names as text."""

import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

_PLAIN = " .,;-/%'\"?()=+"  # what means nothing to Markdown within a line


def gigabytes(number: int) -> str:
    """Bytes as text."""
    return f"{number / 1e9:.2f} GB" if number >= 1e7 else f"{number / 1e6:.2f} MB"


def percent(mean: float | None, deviation: float | None = None) -> str:
    """A fraction in per cent with one decimal: `84.3`, `84.3 ± 1.2`, or `-` where undefined."""
    if mean is None:
        return "-"
    return f"{100 * mean:.1f}" + ("" if deviation is None else f" ± {100 * deviation:.1f}")


def printable(name: str) -> str:
    """A name for a terminal or a page: without control characters, changes of direction or broken Unicode."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in name)


def markdown(text: str) -> str:
    """Text within a line of Markdown: what that or HTML would take for its own becomes a character reference."""
    return "".join(c if c.isalnum() or c in _PLAIN else f"&#{ord(c)};" for c in printable(text))


def nfc(name: str) -> str:
    """A name in composed form (NFC), in which names are compared: systems store the same letters in several ways."""
    return unicodedata.normalize("NFC", name)


def image_names(split: str, files: Sequence[str], images: int) -> list[str]:
    """By which the images of a split are told apart: their files, or where they have none test/0, test/1 and so on.

    What is no Unicode in the name of a file, as Linux allows, is written as \\udce9.
    """
    names = files or [f"{split}/{number}" for number in range(images)]
    return [name.encode(errors="backslashreplace").decode() for name in names]


def listed(names: Iterable[str], most: int = 5) -> str:
    """Names for a sentence: `'a', 'b'`, or with more than `most` of them the first and how many follow."""
    every = list(names)
    more = f" and {len(every) - most} more" if len(every) > most else ""
    return ", ".join(repr(printable(name)) for name in every[:most]) + more


def short_names(paths: Sequence[str | Path]) -> list[str]:
    """The last part of every path, or as many of the last as tell them all apart."""
    parts = [Path(path).absolute().parts for path in paths]
    for length in range(1, max(map(len, parts)) + 1):
        names = [str(Path(*own[-length:])) for own in parts]
        if len(set(names)) == len(names):
            return names
    return [str(path) for path in paths]
