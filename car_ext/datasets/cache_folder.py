"""The folder of decoded images: where it is, what is in it, and that it takes no more than its share of the disk."""

import contextlib
import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock, Timeout

from car_ext.datasets.mapped import Damaged, described, json_facts
from car_ext.datasets.notes import say
from car_ext.datasets.options import expanded
from car_ext.errors import InputError
from car_ext.text import gigabytes

AUTO, NONE = "auto", "none"  # the words for the usual folder and for no folder
RESTING = 24 * 3600  # seconds without use, after which a file may go to make room
OURS = "car_ext-decoded"  # how our files' names begin: a user may name any folder


class Kept(NamedTuple):
    """A file of decoded images.

    Attributes:
        path: of the .npy file.
        bytes: of it and of what is said of it.
        used: when it was last opened, in seconds since 1970.
        data, part, where: name of the data, split, and place of its files; "" where it does not say.
        shape: (N, H, W, C); () where it does not say.
    """

    path: Path
    bytes: int
    used: float
    data: str = ""
    part: str = ""
    where: str = ""
    shape: tuple[int, ...] = ()


def find_folder(cache_dir: str | Path) -> Path | None:
    """The folder of decoded images; it need not exist. None where there is to be none.

    Args:
        cache_dir: a folder; "auto" is `car_ext` in the system's folder for caches, which `XDG_CACHE_HOME` moves on
            Linux; "none" is no folder.

    Raises:
        InputError: it is a file.
    """
    if str(cache_dir) == AUTO:
        from platformdirs import user_cache_path

        return user_cache_path("car_ext", appauthor=False)
    if str(cache_dir) == NONE:
        return None
    folder = expanded(cache_dir)
    if folder.exists() and not folder.is_dir():
        raise InputError(f"--cache-dir is {str(folder)!r}, which is no folder: give a folder, or none")
    return folder


def kept(folder: Path) -> list[Kept]:
    """The files of decoded images in a folder that were finished, the last used first."""
    found = []
    for about in folder.glob(f"{OURS}-*.json"):
        path = about.with_suffix(".npy")
        with contextlib.suppress(OSError):  # another process has removed it
            size, used = path.stat().st_size + about.stat().st_size, about.stat().st_mtime
            found.append(_told(Kept(path, size, used), about))
    return sorted(found, key=lambda file: (-file.used, file.path))


def _told(file: Kept, about: Path) -> Kept:
    try:
        facts = json_facts(about)
        shape = tuple(map(int, facts["shape"]))
    except (Damaged, KeyError, TypeError, ValueError):
        return file
    data, part, where = (str(facts.get(key, "")) for key in ("data", "part", "where"))
    return file._replace(data=data, part=part, where=where, shape=shape)


def state(folder: Path | None, where: str) -> dict[str, Any]:
    """What is kept in a folder, ready for JSON.

    Args:
        folder: None where nothing is kept.
        where: the place of some data, as of `Kept`.

    Returns:
        folder; files and bytes of all; of_these: path, split, shape and bytes of each file of those data.
    """
    files = kept(folder) if folder else []
    return {
        "folder": str(folder) if folder else None,
        "files": len(files),
        "bytes": sum(file.bytes for file in files),
        "of_these": [
            {"path": str(file.path), "split": file.part, "shape": list(file.shape), "bytes": file.bytes}
            for file in sorted(files, key=lambda file: (file.part != "train", file.part != "val", file.path))
            if where and file.where == where
        ],
    }


def make_room(folder: Path, needed: int) -> str:
    """Removes files that no process has opened for a day, the longest unused first, until a new one fits.

    All together may take half of the disk that would be free without them.

    Args:
        folder: of decoded images, which exists.
        needed: bytes of the new file.

    Returns:
        "" where it fits, else why it does not, as the end of "they are not kept on disk: ...".
    """
    remove_drafts(folder)
    files = kept(folder)
    taken = sum(file.bytes for file in files)
    share = (taken + shutil.disk_usage(folder).free) // 2
    for file in reversed(files):
        if taken + needed <= share or time.time() - file.used < RESTING:
            break
        taken -= remove(file)
    if taken + needed <= share:
        return ""
    return (
        f"they take {gigabytes(needed)}, and of the {gigabytes(share)} that decoded images may take in "
        f"{str(folder)!r}, half of what is free, {gigabytes(taken)} are in use; make room, or name another disk with "
        "--cache-dir"
    )


def remove(file: Kept) -> int:
    """Removes a file and what is said of it; one that is mapped stays with those who have it.

    Returns:
        Bytes that are free now; 0 where it cannot be removed.
    """
    try:
        file.path.unlink(missing_ok=True)
        described(file.path).unlink(missing_ok=True)
    except OSError:  # Windows keeps what is mapped, and it goes on to count
        return 0
    return file.bytes


def clear(folder: Path) -> tuple[int, int]:
    """Removes all decoded images and what is left of drafts.

    Returns:
        How many files of images were removed, and their bytes.
    """
    remove_drafts(folder)
    freed = [remove(file) for file in kept(folder)]
    for path in folder.glob(f"{OURS}-*.*"):  # one of two, of which a kill has left the other out
        if path.with_suffix(".json").exists() and path.with_suffix(".npy").exists():
            continue
        with free(lock_file(path)) as ours, contextlib.suppress(OSError):
            if ours and path.suffix != ".tmp":  # else it is being made
                path.unlink()
    for lock in folder.glob(f".{OURS}-*.lock"):
        with free(lock), contextlib.suppress(OSError):
            lock.unlink()
    return sum(size > 0 for size in freed), sum(freed)


def remove_drafts(folder: Path) -> None:
    """Removes half-written files that nobody is writing any more: their process was killed."""
    for draft in folder.glob(f"{OURS}-*.tmp"):
        with free(lock_file(draft.with_name(draft.name.partition(".")[0]))) as ours:
            if ours:
                draft.unlink(missing_ok=True)


def lock_file(path: Path) -> Path:
    """The lock of a file of decoded images."""
    return path.with_name(f".{path.stem}.lock")


@contextlib.contextmanager
def alone(path: Path, waiting: str) -> Iterator[None]:
    """No other process makes the file meanwhile; the system lets go of the lock where this one is killed.

    Args:
        path: of decoded images.
        waiting: what to print, once, where another process is at it.

    Raises:
        OSError: the folder has no locks.
    """
    lock = FileLock(lock_file(path), is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        say(waiting)
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


@contextlib.contextmanager
def free(lock_path: Path) -> Iterator[bool]:
    """Whether nobody holds a lock; it is ours for the length of a with statement then."""
    lock = FileLock(lock_path, is_singleton=True)
    try:
        lock.acquire(timeout=0)
    except (Timeout, OSError):
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def touch(path: Path) -> None:
    """Notes that a file of decoded images is used."""
    with contextlib.suppress(OSError):
        os.utime(described(path))
