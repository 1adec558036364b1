"""One process in a folder at a time."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock, Timeout

from car_ext.errors import InputError

INSIDE = ".lock"  # its name where it cannot lie beside the folder


class Busy(InputError):
    """Another process is at work in a folder."""


@contextlib.contextmanager
def alone(folder: Path, wait: bool = False) -> Iterator[None]:
    """No other process comes into the folder meanwhile; the system lets go of it where this one is killed.

    The lock is a file beside the folder, whose content stays what users expect; inside where they may not write there.
    It stays, as one who waits for it has it open. The process that holds it may come again.

    Args:
        folder: need not exist.
        wait: until it is free.

    Raises:
        Busy: another process is in there, and we do not wait.
    """
    folder = folder.resolve()
    folder.parent.mkdir(parents=True, exist_ok=True)
    beside = os.access(folder.parent, os.W_OK)
    lock = FileLock(folder.parent / f".{folder.name}.lock" if beside else folder / INSIDE, is_singleton=True)
    try:
        lock.acquire(timeout=-1 if wait else 0)
    except Timeout:
        raise Busy(
            f"another process is at work in {folder}; wait until it ends, or give another folder (--out)."
        ) from None
    try:
        yield
    finally:
        lock.release()
