"""One way to list and read a folder and a .zip file."""

import itertools
import os
import re
import threading
import zipfile
from functools import cached_property
from pathlib import Path, PurePosixPath

from car_ext.errors import InputError

# No photograph is this large; a zip member that claims more is a decompression bomb.
MAX_FILE_BYTES = 1 << 28


class FolderTree:
    """A folder on disk; nothing outside it is ever read.

    Args:
        path: the folder.

    Raises:
        InputError: it does not exist or is no folder.
    """

    def __init__(self, path: Path):
        if not path.is_dir():
            raise InputError(f"data folder {str(path)!r} does not exist: check the path")
        self.path = path.resolve()

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Sorted names of the subfolders and of the files in a folder, dot files left out.

        Args:
            folder: path below the root with forward slashes, "" for the root itself.

        Raises:
            InputError: the folder cannot be read, or a link in it leads outside the root.
        """
        folders, files = [], []
        try:
            with os.scandir(self.path / folder) as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        continue
                    if entry.is_symlink() and not Path(entry.path).resolve().is_relative_to(self.path):
                        raise InputError(
                            f"link {entry.path!r} leads outside {str(self.path)!r}: copy its target into the folder"
                        )
                    if entry.is_dir():
                        folders.append(entry.name)
                    elif entry.is_file() or entry.is_symlink():  # a dangling link fails aloud when it is read
                        files.append(entry.name)
        except (OSError, RuntimeError) as error:  # a link to itself is a RuntimeError before Python 3.13
            raise InputError(f"folder {self.locate(folder)!r} cannot be read: {error}") from error
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"file {self.locate(name)!r} cannot be read: {error.strerror}") from error

    def locate(self, name: str) -> str:
        """What to call a file in a message."""
        return str(self.path / name)


class ZipTree:
    """A .zip file, read in place; it can be pickled, forked and read from several threads.

    Args:
        path: the .zip file, opened on first use in each process.
    """

    def __init__(self, path: Path):
        self.path = path
        self._opened: tuple[int, zipfile.ZipFile, threading.Lock] | None = None

    def __reduce__(self):
        return ZipTree, (self.path,)

    def _open(self) -> tuple[int, zipfile.ZipFile, threading.Lock]:
        # A forked process shares the file position with its parent, so each process opens its own.
        opened = self._opened
        if opened is None or opened[0] != os.getpid():
            try:
                opened = self._opened = (os.getpid(), zipfile.ZipFile(self.path), threading.Lock())
            except (OSError, ValueError, NotImplementedError, zipfile.BadZipFile) as error:
                raise InputError(
                    f"zip file {str(self.path)!r} cannot be read ({error}): check the path or fetch it again"
                ) from error
        return opened

    @cached_property
    def _folders(self) -> dict[str, tuple[set[str], set[str]]]:
        folders: dict[str, tuple[set[str], set[str]]] = {"": (set(), set())}
        for info in self._open()[1].infolist():
            name = info.orig_filename
            if name.startswith("/") or "\\" in name or re.match("[A-Za-z]:", name) or ".." in name.split("/"):
                raise InputError(
                    f"zip file {str(self.path)!r} holds the unsafe path {name!r}: "
                    "pack it again with plain relative paths"
                )
            path = PurePosixPath(info.filename)
            if not path.parts or any(map(_hidden, path.parts)):
                continue
            parents = [*reversed((path / "_" if info.is_dir() else path).parents)]
            for parent, child in itertools.pairwise(parents):
                folders[_key(parent)][0].add(child.name)
                folders.setdefault(_key(child), (set(), set()))
            if not info.is_dir():
                folders[_key(path.parent)][1].add(path.name)
        return folders

    def list(self, folder: str) -> tuple[list[str], list[str]]:
        """Sorted names of the subfolders and of the files in a folder, dot files and __MACOSX left out.

        Args:
            folder: path inside the archive, "" for its root.

        Raises:
            InputError: the file is no intact .zip, or holds a path that could lead outside it.
        """
        folders, files = self._folders[folder]
        return sorted(folders), sorted(files)

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            InputError: the member is corrupt, encrypted or too large.
        """
        _, archive, lock = self._open()
        try:
            info = archive.getinfo(name)
            if info.file_size > MAX_FILE_BYTES:
                raise ValueError(f"it unpacks to {info.file_size} bytes")
            with lock:  # ZipFile counts its open members without one
                return archive.read(info)
        except Exception as error:  # each compression method raises its own kind
            raise InputError(f"file {self.locate(name)!r} cannot be read ({error}): pack it again") from error

    def locate(self, name: str) -> str:
        """What to call a member in a message."""
        return f"{self.path}/{name}"


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _key(path: PurePosixPath) -> str:
    return "" if path == PurePosixPath() else str(path)
