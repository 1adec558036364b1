"""Images named by a text file, one `relative/path label` a line, or by a table."""

from collections import Counter
from pathlib import Path

import numpy as np

from car_ext.datasets.benchmarks import BENCHMARKS
from car_ext.datasets.labels import Classes, Labelled, check_kinds
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.options import expanded
from car_ext.datasets.rows import Row, read_rows, where, whole_number
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError
from car_ext.text import listed


class ImageList:
    """A list file whose images are all there.

    Attributes:
        path: of the list.
        rows: in order, with the paths of the images as they are spelled in the tree.
        labelled: the labels: numbers, or text if not all are.

    Args:
        path: of the list.
        tree: the folder that the paths are relative to.
        label_column: of a .csv file.

    Raises:
        InputError: as of `read_rows`, a path that is unsafe or leads to no file, or text in a file that is no .csv.
    """

    def __init__(self, path: Path, tree: FolderTree, label_column: str | None = None) -> None:
        self.path = path
        table = path.suffix.lower() == ".csv"
        self.rows = [self._checked(row, tree, table) for row in read_rows(path, label_column)]
        numbers = not table or all(whole_number(row.label) for row in self.rows)
        self.labelled = Labelled(str(path), [int(row.label) if numbers else row.label for row in self.rows])

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


def load(request: Request, name: str, train_list: Path | None, test_list: Path | None) -> LongTailedData:
    """Lists the images of list files without decoding them.

    A row is a path relative to the request's root and a label: a number from 0 to K - 1, by which the class is called
    then, or, in a .csv file, text, whose sorted values are the classes. Samples keep the order of the rows. A class may
    lack test images; of a test list alone the classes are those that occur.

    Args:
        request: where the images are, whose folder nothing outside is read of, and their size; see `rows.read_rows`.
        name: what to call the data.
        train_list: the training images; None leaves the training split empty.
        test_list: the test images; None leaves the test split empty.

    Raises:
        InputError: as of `ImageList`, labels with a gap, text in one list and numbers in the other, test labels that no
            training image has, or two lists of the same images.
    """
    tree, column = FolderTree(request.root), request.options.label_column
    train, test = (ImageList(path, tree, column) if path else None for path in (train_list, test_list))
    lists = [part for part in (train, test) if part]
    notes = check_kinds([part.labelled for part in lists])
    if train and test and request.data not in BENCHMARKS:  # whose lists are known by their sizes
        _check_apart(train, test)
    if train:
        train.check_numbers()
    classes = Classes([lists[0].labelled], training=train is not None)
    image_size = request.image_size or default_size(tree, [row.path for row in lists[0].rows])

    def split(part: ImageList | None) -> Split:
        paths = tuple(row.path for row in part.rows) if part else ()
        targets = _targets(part, classes, lists[0].path) if part else np.empty(0, np.int64)
        return Split(LazyImages(tree, paths, image_size), targets, paths)

    for part in lists:
        notes += part.notes
    return LongTailedData(name, classes.names, split(train), split(test), image_size, channels=3, notes=tuple(notes))


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
        InputError: as of `ImageList`.
    """
    found = ImageList(path, tree)
    return [row.path for row in found.rows], np.array(found.labelled.labels)


def load_lists(request: Request) -> LongTailedData:
    """The data of a training list and the test list of the options, or of a test list alone.

    Raises:
        InputError: no test list where one is needed, or as of `load`.
    """
    path, test_list = request.path, request.options.test_list
    if request.needs_train and request.needs_test and test_list is None:
        raise InputError(
            f"data {request.data!r} is a list of training images: add --test-list, a list of the test images, or "
            "--holdout 0.2 to score on a part of the training images"
        )
    test = expanded(test_list or path) if request.needs_test else None
    return load(request, path.stem, path if request.needs_train else None, test)


SOURCE = Source(
    "list file",
    matches=lambda data: Path(data).suffix.lower() == ".txt",
    load=load_lists,
    options=("data_root", "test_list"),
)
