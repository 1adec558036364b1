"""What the folders and files of splits are called."""

from collections.abc import Iterable

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
