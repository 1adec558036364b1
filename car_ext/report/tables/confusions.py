"""What is taken for what, and the singular values of that."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from car_ext.metrics.mistakes import IMAGES_PER_PAIR, PAIRS, confused_pairs
from car_ext.report.cells import Table, number, percent
from car_ext.report.runs import Run

READABLE = 15  # classes up to which the numbers of the whole matrix can be read
MOST = 100  # pairs


def table(run: Run) -> Table:
    """The whole matrix where it can be read, else the pairs that are confused most."""
    confusion, names = run.found.confusion, run.class_names
    if len(names) <= READABLE:
        return Table(
            f"{run.name}: test images by true class (rows) and predicted class (columns)",
            ["true \\ predicted", *names],
            [[name, *map(str, row)] for name, row in zip(names, confusion.dense().T, strict=True)],
        )
    rows = [
        [names[true], names[predicted], str(confusion[predicted, true]), percent(_share(run, predicted, true))]
        for predicted, true in confused_pairs(confusion, MOST)
    ]
    columns = ["true class", "taken for", "images", "of the class, %"]
    return Table(f"{run.name}: the {MOST} most confused pairs", columns, rows, frozenset([1]))


class Pair(NamedTuple):
    true: str
    predicted: str
    share: str
    elsewhere: list[tuple[str, str]]  # (run, share) in the other runs
    examples: list[int]  # places in findings.examples


def pairs(run: Run, runs: Sequence[Run]) -> list[Pair]:
    """What is confused most, with the images kept of it."""
    confusion, examples = run.found.confusion, run.found.examples
    others = [other for other in runs if other is not run and other.findings]
    found = []
    for predicted, true in confused_pairs(confusion, PAIRS):
        of_pair = (examples["predicted"] == predicted) & (examples["true"] == true)
        count, images = confusion[predicted, true], confusion.images[true]
        found.append(
            Pair(
                run.class_names[true],
                run.class_names[predicted],
                f"{percent(count / images)} % of the class ({count} of {images} images)",
                [(other.name, percent(_share(other, predicted, true))) for other in others],
                np.flatnonzero(of_pair)[:IMAGES_PER_PAIR].tolist(),
            )
        )
    return found


def spectrum(runs: Sequence[Run]) -> Table:
    """Singular values of each run, of C and of C Lambda."""
    columns = ["number", *(f"{run.name}, {what}" for run in runs for what in ("plain", "weighted"))]
    stacked = np.stack([values for run in runs for values in run.spectrum], axis=1)
    rows = [[str(at), *map(number, row)] for at, row in enumerate(stacked, 1)]
    return Table("Singular values of the confusion matrix without its diagonal", columns, rows)


def _share(run: Run, predicted: int, true: int) -> float:
    images = run.found.confusion.images[true]
    return run.found.confusion[predicted, true] / images if images else np.nan
