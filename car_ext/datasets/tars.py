"""The members of tar shards, listed once and read where they lie, in any order."""

import tarfile
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from car_ext.datasets.stamp import Stamp
from car_ext.datasets.tree import MAX_FILE_BYTES, FolderTree, danger, unsafe
from car_ext.errors import InputError

PICKLES = frozenset({"pyd", "pickle", "pkl", "pt", "pth"})  # what WebDataset would unpickle


class Member(NamedTuple):
    """A file in a shard.

    Attributes:
        shard: its position among the shards.
        name: its path there.
        offset, size: of its content, in bytes.
    """

    shard: int
    name: str
    offset: int
    size: int

    @property
    def key(self) -> str:
        """What the members of one sample share: the path up to the first dot of the name, as WebDataset has it."""
        folder, slash, name = self.name.rpartition("/")
        return f"{folder}{slash}{name.partition('.')[0]}"

    @property
    def ending(self) -> str:
        """What follows that dot, in lower case; "" where there is none."""
        return self.name.rpartition("/")[2].partition(".")[2].lower()

    @property
    def hidden(self) -> bool:
        """Whether a part of the path begins with a dot, as that of what macOS notes of a file."""
        return any(part.startswith(".") for part in PurePosixPath(self.name).parts)


def members(tree: FolderTree, shards: Sequence[str], shard: int) -> tuple[list[Member], int]:
    """The files in a shard, in its order, and how many of its members are links or devices, which are never read.

    Args:
        tree: the folder.
        shards: paths of all shards below it.
        shard: position of the one.

    Raises:
        InputError: it cannot be read, is compressed or cut short, holds a path that could lead outside it, or a pickle.
    """
    where, found, others = tree.locate(shards[shard]), [], 0
    try:
        with tarfile.open(tree.path / shards[shard], "r:") as archive:
            while info := archive.next():
                archive.members = []  # type: ignore[attr-defined]  # of which it would keep millions
                if info.isdir():
                    continue
                member = Member(shard, info.name, info.offset_data, info.size)
                _check(member, where)
                if info.isreg() and info.sparse is None:
                    found.append(member)
                else:
                    others += 1
    except (tarfile.TarError, OSError, EOFError, ValueError) as error:
        reason = " ".join(str(error).split()) or "it is cut short"
        raise InputError(f"shard {where!r} cannot be read ({reason}): fetch it again") from error
    if found and found[-1].offset + found[-1].size > tree.size(shards[shard]):
        raise InputError(f"shard {where!r} cannot be read (it is cut short): fetch it again")
    return found, others


def _check(member: Member, where: str) -> None:
    if unsafe(member.name):
        raise InputError(
            f"shard {where!r} holds the unsafe path {member.name!r}, which {danger(member.name)}: "
            "pack it again with plain relative paths"
        )
    if member.ending.rpartition(".")[2] in PICKLES:
        raise InputError(
            f"shard {where!r} holds {member.name!r}, a pickle, which can run code when it is read: pack it again "
            "without, with labels as .cls, .txt or .json"
        )


class Tars:
    """Files in tar shards; picklable, and safe in threads: each is opened, read at its place and closed.

    Args:
        tree: the folder.
        shards: paths of the shards below it.
        files: those that can be asked for; their positions are the keys.
    """

    def __init__(self, tree: FolderTree, shards: Sequence[str], files: Sequence[Member]) -> None:
        self.tree, self.shards = tree, tuple(shards)
        self.names = [member.name for member in files]
        self._places = np.array([(m.shard, m.offset, m.size) for m in files], np.int64).reshape(-1, 3)
        self._stamps = tree.stamps(self.shards)

    def __len__(self) -> int:
        return len(self.names)

    def read(self, key: int) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: it is too large, or its shard cannot be read or is not what was listed.
        """
        shard, offset, size = self._places[key].tolist()
        if size > MAX_FILE_BYTES:
            raise InputError(f"file {self.locate(key)!r} cannot be read (it has {size} bytes): pack it again")
        with self.tree.open(self.shards[shard]) as file:
            if Stamp.of(file.fileno()) != self._stamps[shard]:
                raise InputError(
                    f"shard {self.tree.locate(self.shards[shard])!r} was changed since it was listed: start again"
                )
            file.seek(offset)
            data = file.read(size)
        if len(data) != size:
            raise InputError(f"file {self.locate(key)!r} cannot be read (its shard is cut short): fetch it again")
        return data

    def size(self, key: int) -> int:
        """The bytes of a file, counted."""
        return int(self._places[key, 2])

    def stamps(self, keys: Sequence[int]) -> tuple[Stamp, ...]:
        """Of the shards that some files lie in."""
        return self.tree.stamps([self.shards[shard] for shard in np.unique(self._places[list(keys), 0])])

    def file(self, key: int) -> str:
        """By which a file is found again: its shard and its path there."""
        return f"{self.shards[self._places[key, 0]]}/{self.names[key]}"

    def locate(self, key: int) -> str:
        """What to call a file in a message."""
        return self.tree.locate(self.file(key))
