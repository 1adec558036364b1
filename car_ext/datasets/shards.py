"""The files of a parquet folder, read through pyarrow, which is imported only where such data is used."""

import bisect
import contextlib
import re
import threading
from collections.abc import Iterator, Sequence
from types import ModuleType
from typing import Any

from car_ext.datasets.stamp import Stamp
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError

OLDEST_PYARROW = (14, 0, 1)  # those before unpickle what a file's metadata holds (CVE-2023-47248)


def pyarrow() -> ModuleType:
    """The package, with its parquet module.

    Raises:
        InputError: it is missing or too old to be safe.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise InputError("parquet data needs pyarrow: pip install pyarrow") from error
    if tuple(map(int, re.findall("[0-9]+", pyarrow.__version__)[:3])) < OLDEST_PYARROW:
        raise InputError(f"pyarrow {pyarrow.__version__} may run code that a file holds: pip install -U pyarrow")
    return pyarrow


@contextlib.contextmanager
def opened(tree: FolderTree, file: str) -> Iterator[Any]:
    """A pyarrow.parquet.ParquetFile, for the length of a with statement.

    Raises:
        InputError: as `pyarrow`, or the file cannot be read.
    """
    arrow = pyarrow()
    try:
        with arrow.parquet.ParquetFile(tree.path / file) as parquet:
            yield parquet
    except (OSError, arrow.ArrowException) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"parquet file {tree.locate(file)!r} cannot be read ({reason}): fetch it again") from error


class Shards:
    """The image column of parquet files, read a row group at a time; picklable, and safe in threads.

    Args:
        tree: the folder.
        files: paths of the files below it, in order.
        column: the column, of bytes or of structs that hold them as "bytes".

    Raises:
        InputError: a file cannot be read.
    """

    def __init__(self, tree: FolderTree, files: Sequence[str], column: str):
        self.tree, self.files, self.column = tree, files, column
        self._starts: list[int] = []  # first row of each row group, counted over all files
        self._groups: list[tuple[str, int, int]] = []  # its file, its number there, its first row there
        self._rows = 0
        for file in files:
            first = self._rows
            with opened(tree, file) as parquet:
                for group in range(parquet.num_row_groups):
                    self._starts.append(self._rows)
                    self._groups.append((file, group, self._rows - first))
                    self._rows += parquet.metadata.row_group(group).num_rows
        self._last = threading.local()  # the row group read last: neighbours are asked for one after another

    def __reduce__(self):
        return Shards, (self.tree, self.files, self.column)

    def __len__(self) -> int:
        """The number of rows."""
        return self._rows

    def read(self, key: int) -> bytes:
        """The image file in a row, counted over all files.

        Raises:
            InputError: the parquet file cannot be read, or the row holds no bytes.
        """
        group = bisect.bisect_right(self._starts, key) - 1
        if getattr(self._last, "group", None) != group:
            self._last.values, self._last.group = self._values(group), group
        data = self._last.values[key - self._starts[group]].as_py()
        if data is None:
            raise InputError(f"{self.locate(key)} holds no bytes: store the image itself, not a path to it")
        return data

    def stamps(self, keys: Sequence[int]) -> tuple[Stamp, ...]:
        """Of the files."""
        return self.tree.stamps(self.files)

    def locate(self, key: int) -> str:
        """What to call a row in a message."""
        group = bisect.bisect_right(self._starts, key) - 1
        file, _, first = self._groups[group]
        return f"row {first + key - self._starts[group]} of {self.tree.locate(file)}"

    def _values(self, group: int) -> Any:
        file, number, _ = self._groups[group]
        with opened(self.tree, file) as parquet:
            table = parquet.read_row_group(number, columns=[self.column], use_threads=False)
        column = table.column(self.column).combine_chunks()
        return column.field("bytes") if pyarrow().types.is_struct(column.type) else column
