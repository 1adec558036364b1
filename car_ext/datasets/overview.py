"""What the counts of a data set say in words, before anything is read of its images."""

import functools
import sys

import numpy as np

from car_ext.datasets.notes import few
from car_ext.datasets.split import LongTailedData, Split
from car_ext.priors import shot_groups
from car_ext.text import listed, printable

LONG_TAIL = 5  # largest over smallest class, from which on a class may well be neglected


def print_overview(data: LongTailedData) -> None:
    """Prints the overview on stderr, once in the life of a process: many runs may train on the same data."""
    _print(*map(printable, overview(data)))


@functools.cache
def _print(*lines: str) -> None:
    print(*lines, sep="\n", file=sys.stderr, flush=True)


def overview(data: LongTailedData) -> list[str]:
    """At most five lines: how many classes and images there are, how they are spread, and what follows."""
    counts = data.class_counts
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    groups = ", ".join(f"{int(mask.sum()):,} {name}" for name, mask in shot_groups(counts).items())
    parts = {"training": data.train, "validation": data.val, "test": data.test}
    images = ", ".join(f"{len(split):,} {name}" for name, split in parts.items() if split)
    return [
        f"{data.name}: {data.num_classes:,} classes; images: {images}",
        f"training images a class: from {counts[largest]:,} ({listed([data.class_names[largest]])}) to "
        f"{counts[smallest]:,} ({listed([data.class_names[smallest]])}), imbalance ratio {ratio(counts):.4g}; classes "
        f"with many (> 100), medium and few (< 20): {groups}",
        *follows(data),
    ]


def counts_of(split: Split | None, num_classes: int) -> np.ndarray:
    """Images a class, (K,) int64; zeros where there is no split."""
    return np.bincount(split.targets if split else np.empty(0, np.int64), minlength=num_classes)


def ratio(class_counts: np.ndarray) -> float:
    """Largest over smallest class count."""
    return float(class_counts.max() / class_counts.min())


def follows(data: LongTailedData) -> list[str]:
    """What the counts mean for training and for what its scores can tell; at most three sentences."""
    sentences = few(data.class_names, data.test.targets, data.name)
    if ratio(data.class_counts) >= LONG_TAIL:
        sentences.append(
            "a long tail: overall accuracy says little of rare classes; a loss with the class prior, such as "
            "balanced_softmax, comes first"
        )
    else:
        sentences.append("nearly balanced: methods for long tails have little to gain here")
    if data.val is None:
        sentences.append("no validation images to choose by: the last epoch counts; --val-share 0.1 sets some aside")
    return sentences
