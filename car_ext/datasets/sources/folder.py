"""A folder, or a .zip of one, of images sorted into split and class folders."""

from itertools import chain
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from car_ext.datasets.decode import EXTENSIONS
from car_ext.datasets.layout import by_split, split_of
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.notes import LeftOut, ending
from car_ext.datasets.options import expanded
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree, Tree, ZipTree, walk
from car_ext.errors import InputError
from car_ext.text import listed, nfc


class Place(NamedTuple):
    """Where a split lies.

    Attributes:
        folder: its path below the root.
        classes: class name to the name of its folder.
    """

    folder: str
    classes: dict[str, str]


def load(request: Request) -> LongTailedData:
    """Lists an image folder without decoding it.

    Layout: `train/CLASS/**` and `test/CLASS/**`, or `val/` for want of a `test/` with class folders, at the root or
    inside the only folder there. They may be called as of `layout.WORDS`, in any case. Labels follow the sorted names
    of the class folders, samples the sorted paths of the files, as torchvision's ImageFolder has them. Names are
    compared in composed form. A class may lack test images. Where a finished model is scored, a folder without splits
    is itself the test split: `CLASS/**`.

    Raises:
        InputError: nothing readable at the path, another layout, fewer than two classes, a class without training
            images, a class folder without images, or two of one name.
    """
    path = request.path
    tree: Tree = FolderTree(path) if path.is_dir() else ZipTree(path)
    train, test, notes = _find_splits(tree, request)
    if train and len(train.classes) < 2:
        raise InputError(
            f"{tree.locate(train.folder)!r} holds {len(train.classes)} class folders: a classifier needs at least 2"
        )
    if train and test and (lonely := sorted(test.classes.keys() - train.classes.keys())):
        raise InputError(
            f"class {lonely[0]!r} is in {_name(test)}/ but not in {_name(train)}/ of {str(path)!r}: "
            "add training images of it, or remove the folder"
        )
    class_names = tuple(sorted((train or test or Place("", {})).classes))
    left_out = LeftOut()
    files = [_files(tree, place, class_names, left_out) for place in (train, test)]
    image_size = request.image_size or default_size(tree, [*chain(*(files[0] if train else files[1]))])

    def split(by_class: list[list[str]]) -> Split:
        paths = tuple(chain(*by_class))
        return Split(
            LazyImages(tree, paths, image_size), np.repeat(np.arange(len(by_class)), [*map(len, by_class)]), paths
        )

    notes += [*tree.notes, *left_out.notes]
    splits = [*map(split, files)]
    return LongTailedData(path.stem, class_names, splits[0], splits[1], image_size, channels=3, notes=tuple(notes))


def _find_splits(tree: Tree, request: Request) -> tuple[Place | None, Place | None, list[str]]:
    """Where the training and the test images are, if they are needed, and notes on the folders that are not taken."""
    top = tree.list("").folders
    root = f"{top[0]}/" if len(top) == 1 and split_of(top[0]) is None else ""
    folders = tree.list(top[0]).folders if root else top
    found = by_split(folders, f"data {tree.locate(root)!r}")
    if not found and not request.needs_train and (classes := _class_folders(tree, root)):
        return None, classes, []
    places = {split: Place(root + name, _classes(tree, root + name)) for split, name in found.items()}
    train, held_out = places.get("train"), [places[split] for split in ("test", "val") if split in places]
    if train and not train.classes and not request.needs_train:
        train = None
    labelled = [place for place in held_out if _labelled(place, train)]
    test = labelled[0] if labelled and request.needs_test else None
    if (request.needs_train and not train) or (request.needs_test and not test):
        raise InputError(f"data {str(tree.path)!r} {_lacking(train, held_out, request)}")
    notes = []
    if test and test is not held_out[0]:
        notes.append(
            f"{_name(held_out[0])}/ of {tree.path} has no folders of the classes, so {_name(test)}/ is the test split"
        )
    used = {PurePosixPath(place.folder).name for place in (train, test) if place}
    if request.needs_train and request.needs_test and (unused := [f"{name}/" for name in folders if name not in used]):
        plural = "folder" if len(unused) == 1 else "folders"
        notes.append(f"{len(unused)} {plural} of {tree.locate(root).rstrip('/')} not taken: {listed(unused)}")
    return train, test, notes


def _class_folders(tree: Tree, root: str) -> Place | None:
    """The place itself as a test set: its folders are the classes, or those of the only folder there."""
    places = (Place(folder, _classes(tree, folder)) for folder in dict.fromkeys((root.rstrip("/"), "")))
    return next((place for place in places if place.classes), None)


def _labelled(place: Place, train: Place | None) -> bool:
    """Whether a split's folders are classes: those of the training split, where it is known."""
    return bool(place.classes) and (train is None or not train.classes.keys().isdisjoint(place.classes))


def _lacking(train: Place | None, held_out: list[Place], request: Request) -> str:
    """What a layout lacks, and what to do, as the end of "data ... "."""
    if held_out and (train or not request.needs_train):
        return (
            f"has a {_name(held_out[0])}/ folder, but no class folders of the training split in it: "
            f"arrange its images as {_name(held_out[0])}/CLASS/*"
        )
    if not request.needs_train:
        return "has no test/ or val/ folder: arrange the images as test/CLASS/*, or give a folder of class folders"
    if train:
        return (
            "has no test/ or val/ folder beside its training images: arrange some as test/CLASS/*, or hold a part of "
            "them out with --holdout 0.2"
        )
    return (
        "has no train/ folder with a test/ or val/ folder beside it: "
        "arrange the images as train/CLASS/* and test/CLASS/*"
    )


def _classes(tree: Tree, folder: str) -> dict[str, str]:
    """Class name to the name of its folder."""
    classes: dict[str, str] = {}
    for name in tree.list(folder).folders:
        if (other := classes.setdefault(nfc(name), name)) != name:
            raise InputError(
                f"folder {tree.locate(folder)!r} has two class folders {nfc(name)!r}, whose letters are stored in "
                f"different ways ({other!a} and {name!a}): move the images of one into the other"
            )
    return classes


def _files(tree: Tree, place: Place | None, class_names: tuple[str, ...], left_out: LeftOut) -> list[list[str]]:
    """The paths of the images of each class, none where the split lacks it."""
    if place is None:
        return [[] for _ in class_names]
    outside = tree.list(place.folder).files
    left_out.add(tree.locate(place.folder), ["in no class folder"] * len(outside))
    return [
        _images(tree, str(PurePosixPath(place.folder, place.classes[name])), left_out) if name in place.classes else []
        for name in class_names
    ]


def _images(tree: Tree, folder: str, left_out: LeftOut) -> list[str]:
    """The paths of the images in a class folder and in those inside it."""
    images: list[str] = []
    for inside, listing in walk(tree, folder):
        taken = [file for file in listing.files if _is_image(file)]
        images += (f"{inside}/{file}" for file in taken)
        left_out.add(tree.locate(folder), [ending(file) for file in listing.files if not _is_image(file)])
        # ._ is what macOS notes of the file whose name follows.
        hidden = [file for file in listing.hidden if _is_image(file) and not file.startswith("._")]
        left_out.add(tree.locate(folder), ["hidden"] * len(hidden))
    if not images:
        raise InputError(
            f"class folder {tree.locate(folder)!r} holds no image "
            f"({', '.join(sorted(EXTENSIONS))}): add one or remove the folder"
        )
    return images


def _is_image(file: str) -> bool:
    return PurePosixPath(file).suffix.lower() in EXTENSIONS


def _name(place: Place) -> str:
    return PurePosixPath(place.folder).name


def _matches(data: str) -> bool:
    path = expanded(data)
    return path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")


SOURCE = Source("folder", matches=_matches, load=load, general=True)
