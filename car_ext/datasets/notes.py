"""What a user should know of data that are read: files that are not taken, guesses, classes that nothing measures."""

import functools
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath

import numpy as np

from car_ext.text import listed, printable

LISTED = 5  # folders with a sentence of their own
ENOUGH = 10  # test images of a class, of which each then weighs a tenth


def say(line: str) -> None:
    """Prints a line on what is being done, on stderr."""
    print(printable(line), file=sys.stderr, flush=True)


@functools.cache
def tell(note: str) -> None:
    """Prints a sentence on stderr, once in the life of a process: many runs may load the same data."""
    print(f"note: {printable(note)}", file=sys.stderr, flush=True)


def unmeasured(class_names: Sequence[str], targets: np.ndarray, data: str) -> list[str]:
    """A sentence on the classes that a test set, called `data`, has no image of, where there are any.

    Args:
        class_names: K names.
        targets: (N,) labels of the test images.
        data: what to call the test set.
    """
    measured = np.bincount(targets, minlength=len(class_names))
    names = [class_names[label] for label in np.flatnonzero(measured == 0).tolist()]
    if not names:
        return []
    have, them = ("has", "it") if len(names) == 1 else ("have", "them")
    return [
        f"{len(names):,} of {len(class_names):,} classes {have} no test image in {data}, so no score measures {them}: "
        f"{listed(names)}"
    ]


def few(class_names: Sequence[str], targets: np.ndarray, data: str) -> list[str]:
    """A sentence on the classes with too few test images for their accuracy to mean much, where there are any.

    Args:
        class_names, targets, data: as of `unmeasured`.
    """
    measured = np.bincount(targets, minlength=len(class_names))
    names = [class_names[label] for label in np.flatnonzero((measured > 0) & (measured < ENOUGH)).tolist()]
    if not names:
        return []
    have = "has" if len(names) == 1 else "have"
    return [
        f"{len(names):,} of {len(class_names):,} classes {have} fewer than {ENOUGH} test images in {data}: worst-class "
        f"accuracy will be noise; look at the worst tenth of the classes, or add test images: {listed(names)}"
    ]


class LeftOut:
    """Files that are not taken, counted by folder and kind."""

    def __init__(self) -> None:
        self._folders: dict[str, Counter[str]] = {}

    def add(self, folder: str, kinds: Iterable[str]) -> None:
        """Counts files of a folder, each given by its kind, such as its ending."""
        if found := Counter(kinds):
            self._folders.setdefault(folder, Counter()).update(found)

    @property
    def notes(self) -> list[str]:
        """A sentence for each of the first few folders, and one for all others."""
        sentences = [
            f"{_files(kinds.total())} of {folder} not taken: {_kinds(kinds)}"
            for folder, kinds in list(self._folders.items())[:LISTED]
        ]
        if others := list(self._folders.values())[LISTED:]:
            kinds = sum(others, Counter())
            sentences.append(f"{_files(kinds.total())} of {len(others)} more folders not taken: {_kinds(kinds)}")
        return sentences


def ending(file: str) -> str:
    """The kind of a file: its ending, in lower case."""
    return PurePosixPath(file).suffix.lower() or "without an ending"


def _files(number: int) -> str:
    return "1 file" if number == 1 else f"{number:,} files"


def _kinds(kinds: Counter[str]) -> str:
    return ", ".join(f"{number:,} {kind}" for kind, number in kinds.most_common())
