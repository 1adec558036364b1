"""Labels that are likely wrong, by what models take their images for: confident learning, as cleanlab has it."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from car_ext.errors import InputError
from car_ext.files import write_text
from car_ext.metrics.confusions import DENSEST
from car_ext.metrics.predictions_file import PredictionsFile
from car_ext.text import listed

CHOICES = (  # cleanlab's `filter_by`
    "prune_by_noise_rate",
    "prune_by_class",
    "both",
    "confident_learning",
    "predicted_neq_given",
    "low_normalized_margin",
    "low_self_confidence",
)


class LabelIssue(NamedTuple):
    """An image whose label is likely wrong.

    Attributes:
        file: its name.
        split: test or val.
        given: the class that its label says.
        suggested: the most probable class.
        given_probability, suggested_probability: of these classes.
    """

    file: str
    split: str
    given: str
    suggested: str
    given_probability: float
    suggested_probability: float


class LabelIssues(NamedTuple):
    """What a search for wrong labels found.

    Attributes:
        images: how many labels were looked at.
        found: those that are likely wrong, the most doubtful first.
    """

    images: int
    found: list[LabelIssue]

    @classmethod
    def find(cls, paths: Sequence[Path], choice: str = CHOICES[0]) -> "LabelIssues":
        """Of the images of some files of predictions, with their logits; an image in several has the mean probability.

        The models must not have been trained on the images: of an image that it has learnt by heart a model repeats
        the label. Source: Northcutt, Jiang and Chuang, Confident Learning: Estimating Uncertainty in Dataset Labels,
        JAIR 2021; cleanlab's `find_label_issues`, ranked by the probability of the given class.

        Args:
            paths: of the files.
            choice: one of `CHOICES`. Most compare a probability with the mean over its class, so they pass over images
                of a model that is sure of everything; predicted_neq_given takes every image of which the class is not
                predicted.

        Raises:
            InputError: no cleanlab; no such file, one without logits, other classes or other labels of the same image;
                more classes than `confusions.DENSEST`.
        """
        try:
            from cleanlab.filter import find_label_issues
        except ImportError as error:
            raise InputError(
                "the search for wrong labels needs cleanlab, which is not installed; pip install 'car-ext[labels]'."
            ) from error
        every = _Images.read(paths)
        if len(every.class_names) > DENSEST:
            raise InputError(
                f"{paths[0]} is of {len(every.class_names)} classes, of which cleanlab makes K x K tables; give "
                f"predictions over at most {DENSEST}."
            )
        ranked = find_label_issues(
            every.labels,
            every.probabilities,
            filter_by=choice,
            return_indices_ranked_by="self_confidence",
            n_jobs=1,
        )
        return cls(len(every.files), [every.issue(int(image)) for image in ranked])

    def write_csv(self, path: Path) -> None:
        """A line for each, below a heading: the fields of `LabelIssue`."""
        content = io.StringIO()
        writer = csv.writer(content, lineterminator="\n")
        writer.writerow(LabelIssue._fields)
        writer.writerows(self.found)
        write_text(path, content.getvalue())


class _Images(NamedTuple):
    """N images, each once: names, splits, labels (N,) and probabilities (N, K)."""

    class_names: Sequence[str]
    files: Sequence[str]
    splits: Sequence[str]
    labels: np.ndarray
    probabilities: np.ndarray

    @classmethod
    def read(cls, paths: Sequence[Path]) -> "_Images":
        read = {path: PredictionsFile.read(path) for path in paths}
        names = next(iter(read.values())).class_names
        for path, file in read.items():
            if file.class_names != names:
                raise InputError(f"{path} and {paths[0]} have different classes; give predictions over the same ones.")
            if any(part.logits is None for part in file.splits.values()):
                raise InputError(
                    f"{path} holds no logits; write them with car-ext evaluate RUN --data DATA --predictions "
                    "FILE.parquet --logits, or train with --logits."
                )
        parts = [(split, part) for file in read.values() for split, part in file.splits.items()]
        files = [name for _, part in parts for name in part.files]
        labels = np.concatenate([part.targets for _, part in parts])
        _, first, image = np.unique(files, return_index=True, return_inverse=True)
        if (differ := labels != labels[first[image]]).any():
            raise InputError(
                f"{listed(dict.fromkeys(files[at] for at in np.flatnonzero(differ)))} has one label in one file and "
                "another in another; give predictions over the same data."
            )
        sums = np.zeros((first.size, len(names)))
        np.add.at(sums, image, np.concatenate([_softmax(part.logits) for _, part in parts]))
        splits = [split for split, part in parts for _ in part.files]
        return cls(
            names,
            [files[at] for at in first],
            [splits[at] for at in first],
            labels[first],
            sums / np.bincount(image)[:, None],
        )

    def issue(self, image: int) -> LabelIssue:
        given, odds = self.labels[image], self.probabilities[image]
        suggested = odds.argmax()
        return LabelIssue(
            self.files[image],
            self.splits[image],
            self.class_names[given],
            self.class_names[suggested],
            float(odds[given]),
            float(odds[suggested]),
        )


def _softmax(logits: np.ndarray | None) -> np.ndarray:
    assert logits is not None
    odds = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    return odds / odds.sum(axis=1, keepdims=True)
