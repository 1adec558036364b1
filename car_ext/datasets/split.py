"""What every data set looks like to the rest of the package."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

Positions = Sequence[int] | np.ndarray


class Images(Protocol):
    """N images of one size: an (N, H, W, C) uint8 array is one, and so is `lazy.LazyImages`."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> np.ndarray:
        """Image `index` as (H, W, C) uint8."""

    def take(self, positions: Positions) -> "Images":
        """The images at some positions, in that order."""


@dataclass(frozen=True)
class Split:
    """Images and their labels.

    Attributes:
        images: N images, each (H, W, C) uint8; an array when they are held in memory.
        targets: (N,) int64 labels in 0 .. K-1.
        files: N names by which the images are found again, such as paths below the data's folder; empty where the data
            name none.
        groups: N names of what the images show (a patient, a part), which a list gives them; empty where none does.
    """

    images: Images | np.ndarray
    targets: np.ndarray
    files: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.targets)

    def take(self, positions: Positions) -> "Split":
        """The samples at some positions, in that order."""
        images = self.images
        return Split(
            images[positions] if isinstance(images, np.ndarray) else images.take(positions),
            self.targets[positions],
            tuple(self.files[position] for position in positions) if self.files else (),
            tuple(self.groups[position] for position in positions) if self.groups else (),
        )


@dataclass(frozen=True)
class Spent:
    """What no model that is trained on some data may be scored on.

    Attributes:
        images: the training part as it lies in its files, before any cut, and the validation part.
        others: how many images the data have besides; None where they did not come in one part.
        groups: what keeps images together in one split, as of `DataOptions`.
    """

    images: tuple[Images | np.ndarray, ...]
    others: int | None
    groups: str | None = None


@dataclass(frozen=True)
class LongTailedData:
    """A long-tailed training split and its test split over the same K classes.

    Attributes:
        name: what the data is called in reports.
        class_names: K names; the position is the label.
        train: the training images.
        test: the images that judge a finished model.
        image_size: stored height and width in pixels.
        channels: 1 (grey) or 3 (RGB).
        notes: sentences on what was left out or taken for something, see `notes.tell`.
        fingerprint: by which the same data are known elsewhere, see `fingerprint.fingerprint`; "" where not asked for.
        val: images to make choices by, which then need no test image; None where there are none.
        whole: whether the data come in one part, of which `load` makes the splits.
        spent: what no model that is trained on these data may be scored on; None of benchmarks, and without training.
    """

    name: str
    class_names: tuple[str, ...]
    train: Split
    test: Split
    image_size: int
    channels: int
    notes: tuple[str, ...] = ()
    fingerprint: str = ""
    val: Split | None = None
    whole: bool = False
    spent: Spent | None = None

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @property
    def class_counts(self) -> np.ndarray:
        """Training images a class, (K,) int64."""
        return np.bincount(self.train.targets, minlength=self.num_classes)
