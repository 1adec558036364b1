"""The rows of list files: lines `path label`, or a table of comma-separated values."""

import codecs
import csv
from pathlib import Path
from typing import NamedTuple

from car_ext.errors import InputError

# The longer marks come first: that of UTF-32 begins like that of UTF-16.
MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
PATHS = ("path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path")
LABELS = ("label", "class", "class_name", "category", "target")
SPLIT = "split"  # the column that says which split a row belongs to


class Row(NamedTuple):
    """An image and its label as a list says them.

    Attributes:
        line: its number, from 1.
        path: of the image.
        label: text, not empty.
        split: what its column of that name says; "" where there is none.
        group: what the column of the groups says; "" where there is none.
    """

    line: int
    path: str
    label: str
    split: str = ""
    group: str = ""


def read_rows(list_file: Path, label_column: str | None = None, group_column: str | None = None) -> list[Row]:
    """The rows of a list file.

    Args:
        list_file: lines of a path, whitespace and a label, where the path may hold spaces; or, of a .csv file, values
            separated by commas, semicolons or tabs, with a header that names the columns or just path and label.
        label_column: column of a .csv file.
        group_column: column of a .csv file that says what each image belongs to; no group where it has none so called.

    Raises:
        InputError: a file that cannot be read or is empty, a row without path or label, or columns that are not told.
    """
    lines = read_text(list_file).split("\n")
    table = list_file.suffix.lower() == ".csv"
    rows = _table(lines, list_file, label_column, group_column) if table else _lines(lines, list_file)
    if not rows:
        what = "path,label" if table else "relative/path label"
        raise InputError(f"list {str(list_file)!r} is empty: write '{what}' on each line")
    return rows


def read_text(path: Path) -> str:
    r"""A text file in UTF-8, or in what the mark at its beginning says, with lines that end in \n.

    Raises:
        InputError: it cannot be read, or is in another encoding.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(f"list {str(path)!r} cannot be read ({error}): check the path") from error
    encoding = next((name for mark, name in MARKS.items() if data.startswith(mark)), "utf-8")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"list {str(path)!r} cannot be read (line {line}: can't decode byte {data[error.start]:#x} as "
            f"{encoding.upper()}): it is in another encoding, such as Latin-1; save it as UTF-8"
        ) from error
    if text.count("\0") > len(text) // 4:
        raise InputError(f"list {str(path)!r} cannot be read (every other byte is 0): it is UTF-16; save it as UTF-8")
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _lines(lines: list[str], list_file: Path) -> list[Row]:
    rows = []
    for number, line in enumerate(lines, start=1):
        *path, label = line.rsplit(maxsplit=1) or [""]
        if not path and label:
            raise InputError(f"{where(list_file, number)} is {label!r}, but must be a path, a space and a label")
        if path:
            rows.append(Row(number, path[0], label))
    return rows


def _table(lines: list[str], list_file: Path, label_column: str | None, group_column: str | None) -> list[Row]:
    header = next((line for line in lines if line.strip()), "")
    delimiter = next((sign for sign in ",;\t" if sign in header), ",")
    reader = csv.reader((f"{line}\n" for line in lines), delimiter=delimiter, skipinitialspace=True)
    try:
        cells = [(reader.line_num, row) for row in reader if any(map(str.strip, row))]
    except csv.Error as error:
        raise InputError(f"{where(list_file, reader.line_num)} is no row of a table ({error}): mend it") from error
    if not cells:
        return []
    columns = _columns(cells[0][1], list_file, label_column, group_column)
    rows = []
    for number, row in cells[columns is not None :]:
        path, label, *further = (row[at].strip() if at < len(row) else "" for at in columns or (0, 1))
        if not path or not label:
            raise InputError(f"{where(list_file, number)} is {delimiter.join(row)!r}, but must hold a path and a label")
        rows.append(Row(number, path, label, *further))
    return rows


def _columns(
    first: list[str], list_file: Path, label_column: str | None, group_column: str | None
) -> tuple[int, ...] | None:
    """The columns of path, label, split and group, each past the end where it is missing; None without a header."""
    names = [name.strip().lower() for name in first]
    labels = (label_column.lower(),) if label_column else LABELS
    path_at, label_at, split_at, group_at = (
        next((names.index(name) for name in known if name in names), None)
        for known in (PATHS, labels, (SPLIT,), ((group_column or "").lower(),))
    )
    if path_at is not None and label_at is not None:
        return path_at, label_at, *(len(names) if at is None else at for at in (split_at, group_at))
    if len(names) == 2 and path_at is None and label_at is None and not label_column:
        return None
    lacking, known = ("path", PATHS) if path_at is None else ("label", labels)
    fix = "or say which with --label-column" if lacking == "label" else "in its first line"
    raise InputError(
        f"list {str(list_file)!r} has the columns {', '.join(first)}, none of which is the {lacking}: "
        f"call it {' or '.join(map(repr, known[:1]))}, {fix}"
    )


def whole_number(text: str) -> bool:
    """Whether a label is a number that can be a class's."""
    return text.isascii() and text.isdigit() and len(text) <= 9


def where(list_file: Path, line: int) -> str:
    """What to call a line in a message."""
    return f"line {line} of {str(list_file)!r}"
