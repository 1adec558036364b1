"""A folder, or a .zip of one, of images sorted into split and class folders."""

import itertools
from pathlib import Path, PurePosixPath

import numpy as np

from car_ext.datasets.decode import EXTENSIONS
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree, ZipTree
from car_ext.errors import InputError


def load(path: Path, image_size: int | None, needs_train: bool = True) -> LongTailedData:
    """Lists an image folder without decoding it.

    Layout: `train/CLASS/*` and `test/CLASS/*`, or `val/` for want of `test/`, at the root or inside the only
    folder there. Labels follow the sorted names of the class folders, samples the sorted names of the files.

    Args:
        path: the folder or .zip file.
        image_size: stored height and width in pixels; None is `sample.default_size`.
        needs_train: False lets train/ be missing, as where a finished model is scored.

    Raises:
        InputError: nothing readable at the path, another layout, fewer than two classes, or a class without
            images or in one split only.
    """
    tree = FolderTree(path) if path.is_dir() else ZipTree(path)
    root, train, test = _find_splits(tree, needs_train)
    test_files = _class_files(tree, f"{root}{test}")
    train_files = _class_files(tree, f"{root}{train}") if train else {name: [] for name in test_files}
    if train and len(train_files) < 2:
        raise InputError(
            f"{tree.locate(root + 'train')!r} holds {len(train_files)} class folders: a classifier needs at least 2"
        )
    if lonely := sorted(train_files.keys() ^ test_files.keys()):
        here, there = ("train", test) if lonely[0] in train_files else (test, "train")
        raise InputError(
            f"class {lonely[0]!r} is in {here}/ but not in {there}/ of {str(path)!r}: both need the same class folders"
        )
    class_names = tuple(train_files)
    if image_size is None:
        image_size = default_size(tree, list(itertools.chain(*(train_files if train else test_files).values())))

    def split(by_class: dict[str, list[str]]) -> Split:
        files = [name for names in by_class.values() for name in names]
        targets = np.repeat(np.arange(len(class_names)), [len(names) for names in by_class.values()])
        return Split(LazyImages(tree, files, image_size), targets)

    return LongTailedData(path.stem, class_names, split(train_files), split(test_files), image_size, channels=3)


def _find_splits(tree: FolderTree | ZipTree, needs_train: bool) -> tuple[str, str | None, str]:
    """The prefix of the split folders ("" or "FOLDER/"), the training one if there is one, and the held-out one."""
    top = tree.list("")[0]
    prefix = f"{top[0]}/" if len(top) == 1 and top[0] not in ("train", "test", "val") else ""
    folders = tree.list(top[0])[0] if prefix else top
    train = "train" if "train" in folders else None
    for test in ("test", "val"):
        if test in folders and (train or not needs_train):
            return prefix, train, test
    if not needs_train:
        raise InputError(f"data {str(tree.path)!r} has no test/ or val/ folder: arrange the images as test/CLASS/*")
    raise InputError(
        f"data {str(tree.path)!r} has no train/ folder with a test/ or val/ folder beside it: "
        "arrange the images as train/CLASS/* and test/CLASS/*"
    )


def _class_files(tree: FolderTree | ZipTree, folder: str) -> dict[str, list[str]]:
    """Class name to the paths of its images, both sorted."""
    classes = {}
    for name in tree.list(folder)[0]:
        files = [f for f in tree.list(f"{folder}/{name}")[1] if PurePosixPath(f).suffix.lower() in EXTENSIONS]
        if not files:
            raise InputError(
                f"class folder {tree.locate(f'{folder}/{name}')!r} holds no image "
                f"({', '.join(sorted(EXTENSIONS))}): add one or remove the folder"
            )
        classes[name] = [f"{folder}/{name}/{f}" for f in files]
    return classes


def _matches(data: str) -> bool:
    path = Path(data).expanduser()
    return path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")


SOURCE = Source(
    "folder",
    matches=_matches,
    load=lambda request: load(request.path, request.image_size, request.needs_train),
    general=True,
)
