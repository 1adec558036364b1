"""One way to list and read a folder and a .zip file."""

import os
import re
import stat
import struct
import threading
import unicodedata
import zipfile
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import BinaryIO, NamedTuple, TypeAlias

from car_ext.datasets.stamp import Stamp
from car_ext.errors import InputError

# No photograph is this large; a zip member that claims more is a decompression bomb.
MAX_FILE_BYTES = 1 << 28
DEEPEST = 32  # folders inside one another; a link that leads in a circle has no end
UTF8_FLAG, UNICODE_PATH = 1 << 11, 0x7075  # of the .zip format: APPNOTE.TXT 4.4.4 and 4.6.9
UNIX = (3, 19)  # systems whose packers store names as the file system has them: Unix, macOS


class Listing(NamedTuple):
    """What a folder holds, each sorted; hidden folders and __MACOSX are left out.

    Attributes:
        folders: names of the folders inside.
        files: names of the files.
        hidden: names of the files that begin with a dot.
    """

    folders: list[str]
    files: list[str]
    hidden: list[str]


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
        self.notes: list[str] = []
        self._inside: dict[str, bool] = {}

    def fault(self, name: str) -> str | None:
        """Why a path that a list of files names cannot be read, as the end of "path ... "; None if it can.

        A list is long and names few folders, so each of these is resolved once and a file costs one system call.
        """
        if unsafe(name):
            return danger(name)
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

    def spelled(self, name: str) -> str:
        """A path as it is spelled here: composed and decomposed letters (NFC, NFD) name the same file."""
        forms = (name, unicodedata.normalize("NFC", name), unicodedata.normalize("NFD", name))
        return next((form for form in forms if os.path.lexists(f"{self.path}/{form}")), name)

    def _holds(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self.path)

    def list(self, folder: str) -> Listing:
        """What a folder holds.

        Args:
            folder: path below the root with forward slashes, "" for the root itself.

        Raises:
            InputError: the folder cannot be read, or a link in it leads outside the root.
        """
        found = Listing([], [], [])
        try:
            with os.scandir(f"{self.path}/{folder}") as entries:
                for entry in entries:
                    if _hidden(entry.name):
                        if entry.is_file(follow_symlinks=False):
                            found.hidden.append(entry.name)
                        continue
                    if entry.is_symlink() and not self._holds(Path(entry.path)):
                        raise InputError(
                            f"link {entry.path!r} leads outside {str(self.path)!r}: copy its target into the folder"
                        )
                    if entry.is_dir():
                        found.folders.append(entry.name)
                    elif entry.is_file() or entry.is_symlink():  # a dangling link fails aloud when it is read
                        found.files.append(entry.name)
        except (OSError, RuntimeError) as error:  # a link to itself is a RuntimeError before Python 3.13
            raise InputError(f"folder {self.locate(folder)!r} cannot be read: {error}") from error
        return Listing(*map(sorted, found))

    def size(self, name: str) -> int:
        """The bytes of a file, counted; -1 where there is no file."""
        try:
            return (self.path / name).stat().st_size
        except OSError:
            return -1

    def stamps(self, names: Sequence[str]) -> tuple[Stamp, ...]:
        """Of each of some files."""
        return tuple(Stamp.of(f"{self.path}/{name}") for name in names)

    def read(self, name: str) -> bytes:
        """The bytes of a file.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            return (self.path / name).read_bytes()
        except OSError as error:
            raise InputError(f"file {self.locate(name)!r} cannot be read: {error.strerror}") from error

    def open(self, name: str) -> BinaryIO:
        """A file, to be read in pieces.

        Raises:
            InputError: the file cannot be read.
        """
        try:
            return (self.path / name).open("rb")
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
    def _members(self) -> dict[str, zipfile.ZipInfo]:
        """Path to member; of several with one path the last, as packers mean it."""
        members = {}
        for info in self._open()[1].infolist():
            name = self._name(info)
            if unsafe(name):
                raise InputError(
                    f"zip file {str(self.path)!r} holds the unsafe path {name!r}, which {danger(name)}: "
                    "pack it again with plain relative paths"
                )
            members["/".join(part for part in name.split("/") if part not in ("", "."))] = info
        return members

    def _name(self, info: zipfile.ZipInfo) -> str:
        try:
            return member_name(info)
        except UnicodeDecodeError as error:
            raise InputError(
                f"zip file {str(self.path)!r} does not say in which encoding it holds the name {info.filename!r}: "
                "pack it again with names in UTF-8, such as by python -m zipfile -c"
            ) from error

    @property
    def notes(self) -> list[str]:
        """A sentence where members are hidden by later ones of the same path."""
        stored, taken = self._open()[1].infolist(), self._members.values()
        repeated = sum(not info.is_dir() for info in stored) - sum(not info.is_dir() for info in taken)
        if not repeated:
            return []
        files, later = ("1 file", "a later one") if repeated == 1 else (f"{repeated:,} files", "later ones")
        return [f"{files} of {self.path} not taken: it holds {later} of the same name"]

    @cached_property
    def _folders(self) -> dict[str, tuple[set[str], set[str], set[str]]]:
        folders: dict[str, tuple[set[str], set[str], set[str]]] = {"": (set(), set(), set())}
        for name, info in self._members.items():
            *above, last = name.split("/")
            if not last or any(map(_hidden, above)) or (info.is_dir() and _hidden(last)):
                continue
            parent = ""
            for part in (*above, last) if info.is_dir() else above:
                folder = f"{parent}/{part}" if parent else part
                if folder not in folders:
                    folders[folder] = (set(), set(), set())
                    folders[parent][0].add(part)
                parent = folder
            if not info.is_dir():
                folders[parent][2 if _hidden(last) else 1].add(last)
        return folders

    def list(self, folder: str) -> Listing:
        """What a folder holds.

        Args:
            folder: path inside the archive, "" for its root.

        Raises:
            InputError: the file is no intact .zip, has no such folder, holds a path that could lead outside it, or one
                in an encoding that it does not name.
        """
        if folder not in self._folders:
            raise InputError(f"zip file {str(self.path)!r} has no folder {folder!r}: check its layout")
        return Listing(*map(sorted, self._folders[folder]))

    def size(self, name: str) -> int:
        """The bytes of a member, counted; -1 where there is no such member."""
        member = self._members.get(name)
        return -1 if member is None else member.file_size

    def stamps(self, names: Sequence[str]) -> tuple[Stamp, ...]:
        """Of the archive, in which they all lie."""
        return (Stamp.of(self.path),)

    def read(self, name: str) -> bytes:
        """The bytes of a member.

        Raises:
            InputError: the member is corrupt, encrypted or too large.
        """
        _, archive, lock = self._open()
        try:
            info = self._members[name]
            if info.file_size > MAX_FILE_BYTES:
                raise ValueError(f"it unpacks to {info.file_size} bytes")
            with lock:  # ZipFile counts its open members without one
                return archive.read(info)
        except Exception as error:  # each compression method raises its own kind
            raise InputError(f"file {self.locate(name)!r} cannot be read ({error}): pack it again") from error

    def locate(self, name: str) -> str:
        """What to call a member in a message."""
        return f"{self.path}/{name}"


Tree: TypeAlias = FolderTree | ZipTree


def walk(tree: Tree, folder: str) -> list[tuple[str, Listing]]:
    """Every folder at and below one with what it holds, sorted by path: the order of torchvision's ImageFolder.

    Raises:
        InputError: as of `list`, or folders that are too deep, as where a link leads in a circle.
    """
    if folder.count("/") > DEEPEST:
        raise InputError(
            f"folder {tree.locate(folder)!r} is over {DEEPEST} folders deep: remove the link that leads in a circle"
        )
    listing = tree.list(folder)
    below = [found for name in listing.folders for found in walk(tree, f"{folder}/{name}")]
    return sorted([(folder, listing), *below])


def member_name(info: zipfile.ZipInfo) -> str:
    """The path of a member of a .zip file, decoded by what the file says of itself.

    That is UTF-8 where the member is marked so or has a field for it, the bytes of the file system where Unix or macOS
    packed it, which are UTF-8, and code page 437 else.

    Raises:
        UnicodeDecodeError: the bytes are no UTF-8 where they should be.
    """
    name = info.orig_filename.partition("\0")[0]
    if info.flag_bits & UTF8_FLAG or name.isascii():
        return name
    raw = info.orig_filename.encode("cp437")  # what zipfile has decoded from
    extra = info.extra
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        # A version, a checksum of the plain name, which a renamed member no longer has, and the name.
        if kind == UNICODE_PATH and extra[4:9] == struct.pack("<BI", 1, zlib.crc32(raw)):
            return extra[9 : 4 + size].decode("utf-8")
        extra = extra[4 + size :]
    return raw.decode("utf-8") if info.create_system in UNIX else name


def danger(name: str) -> str:
    """What is wrong with a path that is `unsafe`, as the end of "path ... "."""
    if "\\" in name:
        return "has backslashes, with which a path leaves its folder on Windows; write forward slashes"
    return "is absolute or leaves its folder"


def unsafe(name: str) -> bool:
    """Whether a path with forward slashes is anything but plain and relative, and so could lead outside its root."""
    return name.startswith("/") or "\\" in name or bool(re.match("[A-Za-z]:", name)) or ".." in name.split("/")


def _hidden(name: str) -> bool:
    return name.startswith(".") or name == "__MACOSX"
