"""What a report shows of a test set beyond the scores: every confusion, calibration, and mistakes to look at."""

import io
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from car_ext.datasets import Images
from car_ext.errors import InputError
from car_ext.files import write_bytes
from car_ext.intervals import wilson_interval

PAIRS, IMAGES_PER_PAIR, MOST_CONFIDENT = 12, 4, 12  # of which images are kept
THUMBNAIL = 64  # pixels

EXAMPLE = np.dtype([("image", np.int64), ("true", np.int64), ("predicted", np.int64), ("confidence", np.float64)])
RELIABILITY = ("edges", "count", "confidence", "accuracy")


class Mistakes:
    """The wrong predictions, batch by batch in the order of the test set.

    Only their labels and confidences are kept, so memory grows with the mistakes and not with the classes.
    """

    def __init__(self) -> None:
        self._seen, self._batches = 0, [np.empty(0, EXAMPLE)]

    def update(self, logits: np.ndarray, targets: np.ndarray) -> None:
        """Adds a batch: logits (B, K) floats, targets (B,) whole numbers in 0 .. K-1."""
        logits, targets = np.asarray(logits, np.float64), np.asarray(targets)
        predictions = logits.argmax(axis=1)
        wrong = np.flatnonzero(predictions != targets)
        mistakes = np.empty(wrong.size, EXAMPLE)
        mistakes["image"], mistakes["true"], mistakes["predicted"] = (
            self._seen + wrong,
            targets[wrong],
            predictions[wrong],
        )
        # The softmax of the largest logit: 1 / sum_k exp(z_k - z_max).
        mistakes["confidence"] = 1 / np.exp(logits[wrong] - logits[wrong].max(axis=1, keepdims=True)).sum(axis=1)
        self._batches.append(mistakes)
        self._seen += targets.size

    def worth_showing(self, confusion: np.ndarray) -> np.ndarray:
        """The most confident mistakes of each most confused pair, and of all; (M,) of EXAMPLE, most confident first."""
        mistakes = np.concatenate(self._batches)
        mistakes = mistakes[np.lexsort((mistakes["image"], -mistakes["confidence"]))]
        chosen = np.zeros(mistakes.size, bool)
        chosen[:MOST_CONFIDENT] = True
        for predicted, true in confused_pairs(confusion, PAIRS):
            of_pair = (mistakes["predicted"] == predicted) & (mistakes["true"] == true)
            chosen[np.flatnonzero(of_pair)[:IMAGES_PER_PAIR]] = True
        return mistakes[chosen]


@dataclass(frozen=True)
class Findings:
    """What `car_ext.report` shows of one model on one test set beside its summary.

    Attributes:
        confusion: (K, K) int64 counts; row = predicted, column = true.
        reliability: of `ScoreStatistics.reliability`.
        examples: (M,) of EXAMPLE, mistakes, most confident first.
        thumbnails: (M, H, W, C) uint8, their images, at most THUMBNAIL pixels high and wide.
    """

    confusion: np.ndarray
    reliability: Mapping[str, np.ndarray]
    examples: np.ndarray
    thumbnails: np.ndarray

    @classmethod
    def collect(
        cls, confusion: np.ndarray, reliability: Mapping[str, np.ndarray], mistakes: Mistakes, images: Images
    ) -> "Findings":
        """From one pass over a test set: its counts, `ScoreStatistics.reliability`, its mistakes and its images."""
        examples = mistakes.worth_showing(confusion)
        thumbnails = [_thumbnail(images[int(index)]) for index in examples["image"]]
        return cls(
            confusion, reliability, examples, np.stack(thumbnails) if thumbnails else np.empty((0, 1, 1, 1), np.uint8)
        )

    def save(self, path: Path) -> None:
        """Writes a .npz without pickles; of the confusions only those that occur, so K = 10 000 is no matter."""
        predicted, true = np.nonzero(self.confusion)
        content = io.BytesIO()
        np.savez_compressed(
            content,
            classes=len(self.confusion),
            cells=np.stack([predicted, true, self.confusion[predicted, true]]),
            examples=self.examples,
            thumbnails=self.thumbnails,
            **{f"reliability_{key}": self.reliability[key] for key in RELIABILITY},
        )
        write_bytes(path, content.getvalue())

    @classmethod
    def load(cls, path: Path) -> "Findings":
        """Reads what `save` wrote.

        Raises:
            InputError: the file is damaged or of another kind.
        """
        try:
            with np.load(path, allow_pickle=False) as held:
                predicted, true, counts = held["cells"]
                classes, examples, thumbnails = int(held["classes"]), held["examples"], held["thumbnails"]
                confusion = np.zeros((classes, classes), np.int64)
                confusion[predicted, true] = counts
                reliability = {key: held[f"reliability_{key}"] for key in RELIABILITY}
            labels = np.concatenate([examples["true"], examples["predicted"]])
            if (labels >= classes).any() or (labels < 0).any() or len(thumbnails) != len(examples):
                raise ValueError("its examples do not fit its classes")
            return cls(confusion, reliability, examples.astype(EXAMPLE), thumbnails)
        except (ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); train again, or delete it to report without it.") from error


def confused_pairs(confusion: np.ndarray, top: int) -> np.ndarray:
    """The pairs of classes that are confused most.

    By the lower end of the 95 % Wilson interval of the fraction of the true class's images that is taken for the other
    class: a class of a single test image does not lead.

    Args:
        confusion: (K, K) counts; row = predicted, column = true.
        top: at most how many.

    Returns:
        (P, 2) int64, predicted and true label, most confused first.
    """
    predicted, true = np.nonzero(confusion)
    wrong = predicted != true
    pairs = np.stack([predicted[wrong], true[wrong]], axis=1)
    low, _ = wilson_interval(confusion[pairs[:, 0], pairs[:, 1]], confusion.sum(axis=0)[pairs[:, 1]])
    return pairs[np.argsort(-low, kind="stable")[:top]]


def _thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8, made smaller where it is larger than THUMBNAIL."""
    picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.array(picture).reshape(picture.height, picture.width, image.shape[2])
