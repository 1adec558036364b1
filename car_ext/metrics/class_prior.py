"""How frequent the classes are where a model is used, and its scores there."""

import csv
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.errors import InputError, suggest
from car_ext.metrics.class_report import ClassReport
from car_ext.metrics.confusions import Confusion, Confusions
from car_ext.text import listed, nfc
from car_ext.values import convert

WORDS = ("uniform", "train")


@dataclass(frozen=True)
class ClassPrior:
    """The share of each class.

    Attributes:
        source: uniform, train, or the file that says it.
        shares: (K,) float64, sum 1.
    """

    source: str
    shares: np.ndarray

    @classmethod
    def read(cls, source: str, class_names: Sequence[str], class_counts: Sequence[int]) -> "ClassPrior":
        """From a word or a file.

        Args:
            source: "uniform"; "train", as frequent as `class_counts`; or a file: of JSON `{class: weight}` where it
                ends in .json, else of lines `class,weight`, of which the first may be a heading. Weights are divided by
                their sum, so counts will do.
            class_names: K names, of which each needs a weight, 0 where it does not occur.
            class_counts: K training images.

        Raises:
            InputError: no such file, or one of another kind; a class that is unknown, missing or given twice; a weight
                below 0, or none above.
        """
        if source in WORDS:
            weights = np.array(class_counts if source == "train" else [1] * len(class_names), np.float64)
        else:
            weights = _weights(source, _pairs(source), class_names)
        return cls(source, weights / weights.sum())

    def scores(self, confusion: Confusion, class_names: Sequence[str]) -> dict[str, Any]:
        """Scores where the classes have these shares, but are recognised and confused as on the test images.

        With pi_k the share of class k, C the counts and n_k the class's test images, pi_k C_ik / n_k is the share of
        images that are of class k and taken for class i. So

            accuracy = sum_k pi_k C_kk / n_k,    precision_k = pi_k C_kk / n_k / sum_j (pi_j C_kj / n_j),

        the recall stays what it is, and F1_k is the harmonic mean of both. A class without test images is left out, and
        the shares of the others are divided by their sum. Source: Saerens, Latinne and Decaestecker, Adjusting the
        Outputs of a Classifier to New a Priori Probabilities, Neural Computation 2002, for what stays the same.

        Args:
            confusion: (K, K) counts; row = predicted, column = true.
            class_names: K names.

        Returns:
            {"prior_accuracy", "prior": {"source", "unmeasured": share of the classes left out, "macro_precision",
            "macro_f1", "shares": class name to share, "per_class": as of `ClassReport.by_name`}}, ready for JSON.

        Raises:
            InputError: no class with a share has a test image.
        """
        confusion = Confusions.of(confusion)
        images = confusion.images
        shares = np.where(images > 0, self.shares, 0.0)
        if not shares.any():
            raise InputError(f"--test-prior {self.source}: none of its classes has a test image; give another.")
        joint = replace(
            confusion, counts=confusion.counts * (shares / shares.sum() / np.maximum(images, 1))[confusion.true]
        )
        report = ClassReport(joint.right, joint.taken, joint.images)
        return {
            "prior_accuracy": float(report.right.sum()),
            "prior": {
                "source": self.source,
                "unmeasured": float(self.shares[images == 0].sum()),
                "macro_precision": report.macro("precision"),
                "macro_f1": report.macro("f1"),
                "shares": dict(zip(class_names, self.shares.tolist(), strict=True)),
                "per_class": report.by_name(class_names),
            },
        }


def _pairs(source: str) -> list[tuple[str, Any]]:
    """The classes and weights that a file holds, as found."""
    try:
        text = Path(source).read_text(encoding="utf-8-sig")
        if source.lower().endswith(".json"):
            found = json.loads(text, object_pairs_hook=list)
            return [(name, weight) for name, weight in found]
        rows = [row for row in csv.reader(text.splitlines(), strict=True) if row]
        header = bool(rows) and [word.strip().lower() for word in rows[0]] == ["class", "weight"]
        return [(name, weight) for name, weight in rows[header:]]
    except FileNotFoundError:
        raise InputError(f"--test-prior {source} is no file, and not one of the words {', '.join(WORDS)}.") from None
    except (ValueError, TypeError, csv.Error, OSError) as error:
        raise InputError(
            f"--test-prior {source} cannot be read ({error}); give JSON {{class: weight}} in a .json file, or lines "
            "class,weight."
        ) from error


def _weights(source: str, pairs: Iterable[tuple[str, Any]], class_names: Sequence[str]) -> np.ndarray:
    """(K,) the weights of all classes."""
    known = {nfc(name): label for label, name in enumerate(class_names)}
    weights = np.full(len(class_names), np.nan)
    for name, value in pairs:
        label = known.get(nfc(str(name)))
        if label is None:
            raise InputError(
                f"--test-prior {source} has a class {name!r}, which is none of the model's{suggest(str(name), known)}"
            )
        if not np.isnan(weights[label]):
            raise InputError(f"--test-prior {source} has the class {name!r} twice; give each once.")
        weight = convert(value, float, f"--test-prior {source}: the weight of {name!r}")
        if not 0 <= weight < np.inf:
            raise InputError(f"--test-prior {source}: the weight of {name!r} is {value}; give a number from 0 on.")
        weights[label] = weight
    if np.isnan(weights).any():
        missing = [name for name, weight in zip(class_names, weights, strict=True) if np.isnan(weight)]
        raise InputError(
            f"--test-prior {source} has no weight for {listed(missing)}; give every class one, 0 where it is not met."
        )
    if not weights.any():
        raise InputError(f"--test-prior {source} has no weight above 0; give some.")
    return weights
