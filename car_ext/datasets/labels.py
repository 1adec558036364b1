"""Labels of several files, each with its own meaning, brought to the classes of the training files by name."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from car_ext.errors import InputError
from car_ext.text import nfc

Label: TypeAlias = int | str | None


class Labelled(NamedTuple):
    """The labels of one file and what it says of them itself.

    Attributes:
        path: of the file.
        labels: one an image: numbers or text, None where there is none.
        names: what the numbers mean, by `distinct`; () where the file does not say.
    """

    path: str
    labels: Sequence[Label]
    names: tuple[str, ...] = ()

    @property
    def kind(self) -> str:
        """What the labels are: "text", "named" numbers or "numbers"; "" where there is none."""
        first = next((label for label in self.labels if label is not None), None)
        if first is None or isinstance(first, str):
            return "text" if first is not None else ""
        return "named" if self.names else "numbers"


class Classes:
    """The classes, by which labels of every file are numbered.

    Attributes:
        names: K names; the position is the label.

    Args:
        files: what has the classes: those that their names say, or else every label, in sorted order.
        training: whether numbers without names must be 0 .. K-1; else those that occur are the classes.
    """

    def __init__(self, files: Sequence[Labelled], training: bool) -> None:
        named = dict.fromkeys(name for names in dict.fromkeys(file.names for file in files) for name in names)
        found = {label for file in files for label in file.labels if label is not None}
        numbers = sorted(label for label in found if isinstance(label, int))
        text = sorted({nfc(label) for label in found if isinstance(label, str)})
        plain = not named and not text  # a class is called by its number
        self.names = tuple(named or text or map(str, range(len(numbers)) if training else numbers))
        self._numbered = {int(name): name for name in self.names} if plain else dict(enumerate(self.names))
        self._labels = {name: label for label, name in enumerate(self.names)}

    def targets(self, file: Labelled) -> np.ndarray:
        """The labels of a file as of `names`, (N,) int64; -1 for one that is no class."""
        known = {label: self._target(label, file.names) for label in set(file.labels)}  # files and classes may be many
        return np.array([known[label] for label in file.labels], np.int64)

    def _target(self, label: Label, names: tuple[str, ...]) -> int:
        if isinstance(label, int):
            name = (names[label] if 0 <= label < len(names) else None) if names else self._numbered.get(label)
        else:
            name = None if label is None else nfc(label)
        return -1 if name is None else self._labels.get(name, -1)


def known_targets(files: Sequence[Labelled], classes: Classes, locate: Callable[[int], str]) -> np.ndarray:
    """The labels of several files, one after another, (N,) int64.

    Args:
        files: N labels in all.
        classes: of the training files.
        locate: what to call an image in a message, counted over all files.

    Raises:
        InputError: a label is no class.
    """
    targets = np.concatenate([np.empty(0, np.int64), *map(classes.targets, files)])
    if (targets < 0).any():
        row = int(targets.argmin())
        label = [label for file in files for label in file.labels][row]
        number = len(classes.names)
        raise InputError(
            f"{locate(row)} has the label {label!r}, but the {number} classes have the labels 0 to {number - 1} or "
            "their names"
        )
    return targets


def check_counts(targets: np.ndarray, training: bool, classes: Classes, files: str) -> None:
    """Refuses fewer than two classes, and one without training images.

    Args:
        targets: (N,) labels of the training images, or of the test images where there are no others.
        training: which of both.
        classes: of them.
        files: what to call where they lie in a message.

    Raises:
        InputError: it is so.
    """
    counts = np.bincount(targets, minlength=len(classes.names))
    if len(counts) < 2:
        raise InputError(f"fewer than 2 classes are in {files}: a classifier needs at least 2")
    if training and not counts.all():
        raise InputError(
            f"class {classes.names[counts.argmin()]!r} has no image in {files}: every class needs one to be trained on"
        )


def check_kinds(files: Sequence[Labelled]) -> list[str]:
    """Refuses labels that nothing connects.

    Returns:
        A sentence where numbers without names are taken for those that another file names.

    Raises:
        InputError: text in one file and numbers without names in another.
    """
    first = {file.kind: file.path for file in reversed(files)}
    if "numbers" not in first:
        return []
    if "text" in first:
        raise InputError(
            f"the labels of {first['text']!r} are text and those of {first['numbers']!r} are numbers, "
            "so what is what is not known: write both as text, or both as numbers"
        )
    if "named" not in first:
        return []
    number = sum(file.kind == "numbers" for file in files)
    files_have = f"{first['numbers']} has" if number == 1 else f"{number} files, such as {first['numbers']}, have"
    return [f"{files_have} labels without names, which are taken for those that {first['named']} names"]


def distinct(names: Sequence[str]) -> tuple[str, ...]:
    """Names in composed form, each that several classes have with its label behind it: crane (134), crane (517)."""
    composed = [nfc(name) for name in names]
    times = Counter(composed)
    return tuple(f"{name} ({label})" if times[name] > 1 else name for label, name in enumerate(composed))
