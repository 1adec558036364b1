"""One way to list and read a folder and a .zip file."""

import itertools
import os
import re
import stat
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
        self._inside: dict[str, bool] = {}

    def fault(self, name: str) -> str | None:
        """Why a path that a list of files names cannot be read, as the end of "path ... "; None if it can.

        A list is long and names few folders, so each of these is resolved once and a file costs one system call.
        """
        if unsafe(name):
            return "is absolute or leaves its folder"
        folder = name.rpartition("/")[0]
        try:
            if folder not in self._inside:
                self._inside[folder] = self._holds(self.path / folder)
            inside, mode = self._inside[folder], os.lstat(f"{self.path}/{name}").st_mode
            if inside and stat.S_ISLNK(mode):
                inside, mode = self._holds(self.path / name), (self.path / name).stat().st_mode
        except (OSError, ValueError, RuntimeError):  # a link to itself is a RuntimeError before Python 3.13
            return f"does not exist in {str(self.path)!r}"
        if not inside:
            return f"leads through a link outside {str(self.path)!r}"
        return None if stat.S_ISREG(mode) else "is no file"

    def _holds(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.path)

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
                    if entry.is_symlink() and not self._holds(Path(entry.path)):
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
            if unsafe(info.orig_filename):
                raise InputError(
                    f"zip file {str(self.path)!r} holds the unsafe path {info.orig_filename!r}: "
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
            InputError: the file is no intact .zip, has no such folder, or holds a path that could lead outside it.
        """
        if folder not in self._folders:
            raise InputError(f"zip file {str(self.path)!r} has no folder {folder!r}: check its layout")
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


def unsafe(name: str) -> bool:
    """Whether a path with forward slashes is anything but plain and relative, and so could lead outside its root."""
    return name.startswith("/") or "\\" in name or bool(re.match("[A-Za-z]:", name)) or ".." in name.split("/")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"


def _key(path: PurePosixPath) -> str:
    return "" if path == PurePosixPath() else str(path)
