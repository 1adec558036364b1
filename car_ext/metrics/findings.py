"""What a report shows of a test set beyond the scores: every confusion, calibration, and mistakes to look at."""

import io
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from car_ext.errors import InputError
from car_ext.files import write_bytes
from car_ext.metrics.confusions import Confusion, Confusions
from car_ext.metrics.mistakes import EXAMPLE, Mistakes

if TYPE_CHECKING:  # torch would come with it
    from car_ext.datasets import Images

THUMBNAIL = 64  # pixels
RELIABILITY = ("edges", "count", "confidence", "accuracy")


@dataclass(frozen=True)
class Findings:
    """What `car_ext.report` shows of one model on one test set beside its summary.

    Attributes:
        confusion: the counts; a (K, K) array will do.
        reliability: of `ScoreStatistics.reliability`.
        examples: (M,) of EXAMPLE, mistakes, most confident first.
        thumbnails: (M, H, W, C) uint8, their images, at most THUMBNAIL pixels high and wide.
        files: M names of the images; () where they have none.
    """

    confusion: Confusions
    reliability: Mapping[str, np.ndarray]
    examples: np.ndarray
    thumbnails: np.ndarray
    files: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "confusion", Confusions.of(self.confusion))

    @classmethod
    def collect(
        cls,
        confusion: Confusion,
        reliability: Mapping[str, np.ndarray],
        mistakes: Mistakes,
        images: "Images",
        files: Sequence[str] = (),
    ) -> "Findings":
        """From one pass: its counts, `ScoreStatistics.reliability`, its mistakes, its images and their names."""
        confusion = Confusions.of(confusion)
        examples = mistakes.worth_showing(confusion)
        thumbnails = [thumbnail(images[int(index)]) for index in examples["image"]]
        pictures = np.stack(thumbnails) if thumbnails else np.empty((0, 1, 1, 1), np.uint8)
        named = tuple(files[index] for index in examples["image"]) if files else ()
        return cls(confusion, reliability, examples, pictures, named)

    def save(self, path: Path) -> None:
        """Writes a .npz without pickles; of the confusions only those that occur, so K = 10 000 is no matter."""
        content = io.BytesIO()
        reliability: dict[str, Any] = {f"reliability_{key}": self.reliability[key] for key in RELIABILITY}
        np.savez_compressed(
            content,
            classes=len(self.confusion),
            cells=np.stack([self.confusion.predicted, self.confusion.true, self.confusion.counts]),
            examples=self.examples,
            thumbnails=self.thumbnails,
            files=np.array(self.files, np.str_),
            **reliability,
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
                files = tuple(held["files"].tolist()) if "files" in held else ()  # 0.1.0 did not keep them
                reliability = {key: held[f"reliability_{key}"] for key in RELIABILITY}
            if not all(np.issubdtype(part.dtype, np.integer) for part in (predicted, true, counts)):
                raise ValueError("its counts are no whole numbers")
            confusion = Confusions.of_entries(classes, predicted, true, counts)
            labels = np.concatenate([examples["true"], examples["predicted"]])
            if (labels >= classes).any() or (labels < 0).any() or len(thumbnails) != len(examples):
                raise ValueError("its examples do not fit its classes")
            if len(files) not in (0, len(examples)):
                raise ValueError("its examples do not fit its files")
            return cls(confusion, reliability, examples.astype(EXAMPLE), thumbnails, files)
        except (InputError, ValueError, KeyError, IndexError, TypeError, EOFError, zipfile.BadZipFile) as error:
            raise InputError(f"{path} is damaged ({error}); train again, or delete it to report without it.") from error


def thumbnail(image: np.ndarray) -> np.ndarray:
    """(H, W, C) uint8, made smaller where it is larger than THUMBNAIL."""
    picture = Image.fromarray(image if image.shape[2] == 3 else image[:, :, 0])
    picture.thumbnail((THUMBNAIL, THUMBNAIL))
    return np.array(picture).reshape(picture.height, picture.width, image.shape[2])
