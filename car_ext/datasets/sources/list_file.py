"""Images named by a text file, one `relative/path label` a line."""

import re
from pathlib import Path

import numpy as np

from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError


def load(name: str, train_list: Path | None, test_list: Path, root: Path, image_size: int | None) -> LongTailedData:
    """Lists the images of two list files without decoding them.

    A line is a path relative to root, whitespace and a label from 0 to K - 1; the path may hold spaces, and empty lines
    are skipped. Samples keep the order of the lines, and a class is called by its label.

    Args:
        name: what to call the data.
        train_list: the training images; None leaves the training split empty, as where a finished model is scored.
        test_list: the test images.
        root: folder that the paths are relative to; nothing outside it is read.
        image_size: stored height and width in pixels; None is `sample.default_size`.

    Raises:
        InputError: a list that cannot be read or is empty, a line that is no path and label, a path that is unsafe or
            leads to no file below root (with the number of the line), or labels with a gap or not the same in both.
    """
    tree = FolderTree(root)
    test_files, test_targets = read_list(test_list, tree)
    train_files, train_targets = read_list(train_list, tree) if train_list else ([], np.empty(0, np.int64))
    num_classes = int(max(test_targets.max(), train_targets.max(initial=0))) + 1
    if train_list:
        for path, targets in ((train_list, train_targets), (test_list, test_targets)):
            if targets.max() + 1 < num_classes:
                raise InputError(
                    f"list {str(path)!r} has no image of class {num_classes - 1}, which the other list has: "
                    "both need every class"
                )
    if image_size is None:
        image_size = default_size(tree, train_files or test_files)
    train = Split(LazyImages(tree, train_files, image_size), train_targets)
    test = Split(LazyImages(tree, test_files, image_size), test_targets)
    return LongTailedData(name, tuple(map(str, range(num_classes))), train, test, image_size, channels=3)


def read_list(path: Path, tree: FolderTree) -> tuple[list[str], np.ndarray]:
    """The paths of a list file, N of them, and their labels, (N,) int64.

    Raises:
        InputError: as `load`, for one list.
    """
    try:
        lines = path.read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"list {str(path)!r} cannot be read ({error}): check the path") from error
    files: list[str] = []
    labels: list[int] = []
    first_line: dict[int, int] = {}  # with that label
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        where = f"line {number} of {str(path)!r}"
        *names, label = line.rsplit(maxsplit=1)
        if not names:
            raise InputError(f"{where} is {label!r}, but must be a path, a space and a label")
        if not re.fullmatch("[0-9]{1,9}", label):
            raise InputError(f"{where} ends in {label!r}, but must end in a label, a whole number from 0 on")
        if fault := tree.fault(names[0]):
            raise InputError(f"{where}: path {names[0]!r} {fault}; correct it or --data-root")
        files.append(names[0])
        labels.append(int(label))
        first_line.setdefault(labels[-1], number)
    if not files:
        raise InputError(f"list {str(path)!r} is empty: write 'relative/path label' on each line")
    gap = next((label for label in range(len(first_line)) if label not in first_line), None)
    if gap is not None:
        above = min(label for label in first_line if label > gap)
        raise InputError(
            f"line {first_line[above]} of {str(path)!r} has label {above}, but no line has label {gap}: "
            "number the classes from 0 without a gap"
        )
    return files, np.array(labels, np.int64)


def _load(request: Request) -> LongTailedData:
    path, options = request.path, request.options
    if request.needs_train and options.test_list is None:
        raise InputError(
            f"data {request.data!r} is a list of training images: add --test-list, a list of the test images"
        )
    test = Path(options.test_list or path).expanduser()
    return load(path.stem, path if request.needs_train else None, test, request.root, request.image_size)


SOURCE = Source(
    "list file",
    matches=lambda data: Path(data).suffix.lower() == ".txt",
    load=_load,
    options=("data_root", "test_list"),
)
