"""What the folders and files of splits are called."""

from collections.abc import Container, Iterable
from typing import NamedTuple

from car_ext.errors import InputError

WORDS = {
    "train": "train",
    "training": "train",
    "test": "test",
    "testing": "test",
    "val": "val",
    "valid": "val",
    "validation": "val",
}


class Arrangement(NamedTuple):
    """Which part of the data, "train", "val" or "test", each split is taken from; None for one that stays empty.

    Attributes:
        train, val, test: of the split.
        whole: whether the data come in one part, of which no image is set aside for the test.
    """

    train: str | None
    val: str | None
    test: str | None
    whole: bool

    @property
    def splits(self) -> dict[str, str | None]:
        """Split to its part."""
        return {"train": self.train, "val": self.val, "test": self.test}


def arranged(found: Container[str], needs_train: bool, needs_test: bool) -> Arrangement:
    """What the parts that are there are taken for.

    Validation images are the test split where there is no other. Training images alone are all there is: they are
    listed as the test split where no training split is needed, as for the score of a finished model.

    Args:
        found: the parts.
        needs_train, needs_test: as of `source.Request`.
    """
    test = next((part for part in ("test", "val") if part in found), None)
    if test is None and not needs_train:
        return Arrangement(None, None, "train", True)
    train = "train" if "train" in found else None
    val = "val" if needs_train and "val" in found and test != "val" else None
    return Arrangement(train, val, test if needs_test else None, test is None)


def split_of(name: str) -> str | None:
    """The split that a folder or file called so holds, in any case: "train", "test" or "val"; None for other names."""
    return WORDS.get(name.lower())


def by_split(names: Iterable[str], where: str) -> dict[str, str]:
    """Split to the one name that stands for it.

    Raises:
        InputError: two names stand for one split; `where` says of what.
    """
    found: dict[str, str] = {}
    for name in names:
        if split := split_of(name):
            if split in found:
                raise InputError(
                    f"{where} has both {found[split]}/ and {name}/, which stand for the same split: "
                    "keep one, or merge them"
                )
            found[split] = name
    return found
