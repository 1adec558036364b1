"""Images named by a text file, one `relative/path label` a line, or by a table."""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from car_ext.datasets.benchmarks import BENCHMARKS
from car_ext.datasets.labels import Classes, Labelled, check_kinds
from car_ext.datasets.layout import arranged, split_of
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.options import expanded
from car_ext.datasets.rows import SPLIT, Row, read_rows, where, whole_number
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError
from car_ext.text import listed


class ImageList:
    """Images that a list file names, which are all there.

    Attributes:
        path: of the list.
        rows: in order, with the paths of the images as they are spelled in the tree.
        labelled: the labels: numbers, or text if not all are.

    Args:
        path: of the list.
        rows: of the list.
        tree: the folder that the paths are relative to.

    Raises:
        InputError: a path that is unsafe or leads to no file, or text in a file that is no .csv.
    """

    def __init__(self, path: Path, rows: Sequence[Row], tree: FolderTree) -> None:
        self.path = path
        table = path.suffix.lower() == ".csv"
        self.rows = [self._checked(row, tree, table) for row in rows]
        numbers = not table or _numbered(self.rows)
        self.labelled = Labelled(str(path), [int(row.label) if numbers else row.label for row in self.rows])

    def of_split(self, split: str) -> "ImageList | None":
        """The images whose row says that they are of a split; None where there is none."""
        taken = [index for index, row in enumerate(self.rows) if split_of(row.split) == split]
        if not taken:
            return None
        part = copy.copy(self)
        part.rows = [self.rows[index] for index in taken]
        part.labelled = self.labelled._replace(labels=[self.labelled.labels[index] for index in taken])
        return part

    def _checked(self, row: Row, tree: FolderTree, table: bool) -> Row:
        if not table and not whole_number(row.label):
            raise InputError(
                f"{where(self.path, row.line)} ends in {row.label!r}, but must end in a label, a whole number from 0 "
                "on; text is taken from a .csv file"
            )
        fault = tree.fault(row.path)
        if fault and not row.path.isascii():
            row = row._replace(path=tree.spelled(row.path))
            fault = tree.fault(row.path)
        if fault:
            raise InputError(f"{where(self.path, row.line)}: path {row.path!r} {fault}; correct it or --data-root")
        return row

    def check_numbers(self) -> None:
        """Refuses numbers that leave one out.

        Raises:
            InputError: they do.
        """
        numbers = sorted(label for label in {*self.labelled.labels} if isinstance(label, int))
        gap = next((number for number, label in enumerate(numbers) if label != number), None)
        if gap is not None:
            above = numbers[gap]
            line = self.rows[self.labelled.labels.index(above)].line
            raise InputError(
                f"{where(self.path, line)} has label {above}, but no line has label {gap}: "
                "number the classes from 0 without a gap"
            )

    @property
    def notes(self) -> list[str]:
        """Sentences on images that are listed several times."""
        times = Counter(row.path for row in self.rows)
        labels: dict[str, Counter[str]] = {path: Counter() for path, number in times.items() if number > 1}
        for row in self.rows:
            if row.path in labels:
                labels[row.path][row.label] += 1
        torn = [f"{path} ({', '.join(of)})" for path, of in labels.items() if len(of) > 1]
        again = sum(of.total() - len(of) for of in labels.values())
        notes = []
        if torn:
            have = "image has" if len(torn) == 1 else "images have"
            notes.append(f"{len(torn):,} {have} several labels in {self.path}: {listed(torn)}")
        if again:
            repeat = "line repeats an earlier one" if again == 1 else "lines repeat earlier ones"
            notes.append(f"{again:,} {repeat} in {self.path}: an image counts as often as it is listed")
        return notes


def load(request: Request, name: str, parts: Mapping[str, ImageList | None], whole: bool = False) -> LongTailedData:
    """Lists the images of list files without decoding them.

    A row is a path relative to the request's root and a label: a number from 0 to K - 1, by which the class is called
    then, or, in a .csv file, text, whose sorted values are the classes. Samples keep the order of the rows. A class may
    lack test images; of a test list alone the classes are those that occur.

    Args:
        request: the size of the images.
        name: what to call the data.
        parts: the images of "train", "val" and "test"; None or nothing leaves a split empty.
        whole: as of `LongTailedData`.

    Raises:
        InputError: labels with a gap, text in one list and numbers in the other, test or validation labels that no
            training image has, or two lists of the same images.
    """
    train, val, test = (parts.get(split) for split in ("train", "val", "test"))
    lists = [part for part in (train, val, test) if part]
    notes = check_kinds([part.labelled for part in lists])
    if request.data not in BENCHMARKS:  # whose lists are known by their sizes
        for held_out in filter(None, (val, test) if train else ()):
            _check_apart(lists[0], held_out)
    if train:
        train.check_numbers()
    classes = Classes([lists[0].labelled], training=train is not None)
    tree = FolderTree(request.root)
    image_size = request.image_size or default_size(tree, [row.path for row in lists[0].rows])

    def split(part: ImageList | None) -> Split:
        rows = part.rows if part else []
        paths = tuple(row.path for row in rows)
        targets = _targets(part, classes, lists[0].path) if part else np.empty(0, np.int64)
        groups = tuple(row.group for row in rows) if any(row.group for row in rows) else ()
        return Split(LazyImages(tree, paths, image_size), targets, paths, groups)

    for part in lists:
        notes += part.notes
    return LongTailedData(
        name,
        classes.names,
        split(train),
        split(test),
        image_size,
        channels=3,
        notes=tuple(notes),
        val=split(val) if val else None,
        whole=whole,
    )


def read(request: Request, path: Path) -> ImageList:
    """The images of a list file, below the request's root, whose folder nothing outside is read of.

    Raises:
        InputError: as of `rows.read_rows` and `ImageList`.
    """
    options = request.options
    return ImageList(path, read_rows(path, options.label_column, options.groups), FolderTree(request.root))


def _numbered(rows: Sequence[Row]) -> bool:
    """Whether the labels of a table are numbers of classes.

    A table of several splits is what a run writes of its own, with names of classes that may be any numbers.
    """
    labels = {row.label for row in rows}
    if any(row.split for row in rows):
        return labels == {*map(str, range(len(labels)))}
    return all(map(whole_number, labels))


def _check_apart(train: ImageList, test: ImageList) -> None:
    """Refuses lists of the same images."""
    if {row.path for row in train.rows} == {row.path for row in test.rows}:
        raise InputError(
            f"lists {str(train.path)!r} and {str(test.path)!r} name the same images: "
            "a test set of training images measures nothing; give another --test-list"
        )


def _targets(part: ImageList, classes: Classes, train_list: Path) -> np.ndarray:
    targets = classes.targets(part.labelled)
    if (targets < 0).any():
        row = part.rows[int(targets.argmin())]
        raise InputError(
            f"{where(part.path, row.line)} has label {row.label}, but list {str(train_list)!r} has no image of class "
            f"{row.label}: add some, or leave the line out"
        )
    return targets


def read_list(path: Path, tree: FolderTree) -> tuple[list[str], np.ndarray]:
    """The paths of a list file, N of them, and their labels, (N,) numbers or text.

    Raises:
        InputError: as of `rows.read_rows` and `ImageList`.
    """
    found = ImageList(path, read_rows(path), tree)
    return [row.path for row in found.rows], np.array(found.labelled.labels)


def load_lists(request: Request) -> LongTailedData:
    """The data of a training list and the test list of the options, of one list with a column of the splits, or of one
    list alone, which is then all there is.

    Raises:
        InputError: as of `read` and `load`, or a column of the splits that does not name one in every row.
    """
    path, test_list = request.path, request.options.test_list
    if test_list is not None:
        return load(request, path.stem, _of_two(request, path, expanded(test_list)))
    every = read(request, path)
    if not any(row.split for row in every.rows):
        parts = arranged(["train"], request.needs_train, request.needs_test)
        return load(request, path.stem, {split: every if part else None for split, part in parts.splits.items()}, True)
    if wrong := [row for row in every.rows if split_of(row.split) is None]:
        raise InputError(
            f"{where(path, wrong[0].line)} has {wrong[0].split!r} in the column {SPLIT!r}: write train, val or test"
        )
    found = {split: part for split in ("train", "val", "test") if (part := every.of_split(split))}
    if request.needs_train and "train" not in found:
        raise InputError(f"list {str(path)!r} has no row of the training split: write train into its column {SPLIT!r}")
    parts = arranged(found, request.needs_train, request.needs_test)
    data = load(request, path.stem, {split: found[part] for split, part in parts.splits.items() if part}, parts.whole)
    if parts.test == "val":
        data = replace(data, notes=(*data.notes, f"{path} has no test images, so those of val are the test split"))
    return data


def _of_two(request: Request, path: Path, test_list: Path) -> dict[str, ImageList]:
    """The images of a training list and of a test list, of those that are needed; each is taken whole."""
    needed = {"train": path} if request.needs_train else {}
    needed |= {"test": test_list} if request.needs_test else {}
    lists = {split: read(request, file) for split, file in needed.items()}
    for part in lists.values():
        if len({row.split for row in part.rows}) > 1:
            raise InputError(
                f"list {str(part.path)!r} has rows of several splits, so it needs no --test-list: leave that out, or "
                f"the column {SPLIT!r}"
            )
    return lists


SOURCE = Source(
    "list file",
    matches=lambda data: Path(data).suffix.lower() == ".txt",
    load=load_lists,
    options=("data_root", "test_list"),
)
