"""What the system says of a file, by which a change of it is noticed without reading it."""

import os
from pathlib import Path
from typing import NamedTuple


class Stamp(NamedTuple):
    """What the system says of a file, and what changes with its content.

    Programs can set the time of modification back, such as `cp -p` and `tar`, but not that of the change of the entry,
    and a file that takes another's name has a number of its own. On Windows, which tells the time of creation in place
    of that change, a file that is overwritten with as many bytes, and then given its old time back, has its old stamp.

    Attributes:
        size: bytes.
        modified, changed: nanoseconds since 1970, `st_mtime_ns` and `st_ctime_ns`.
        number: `st_ino`.
    """

    size: int
    modified: int
    changed: int
    number: int

    @classmethod
    def of(cls, path: str | Path | int) -> "Stamp":
        """Of a file, links followed, or of an open one by its number; all zeros where there is none."""
        try:
            found = os.stat(path)  # noqa: PTH116  # of a million files, to which a Path each costs as much again
        except OSError:
            return cls(0, 0, 0, 0)
        return cls(found.st_size, found.st_mtime_ns, found.st_ctime_ns, found.st_ino)
