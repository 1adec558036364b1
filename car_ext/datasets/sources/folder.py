"""A folder, or a .zip of one, of images sorted into split and class folders."""

from itertools import chain
from pathlib import PurePosixPath
from typing import NamedTuple

import numpy as np

from car_ext.datasets.decode import EXTENSIONS
from car_ext.datasets.layout import Arrangement, arranged, by_split, split_of
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

    Layout: `train/CLASS/**`, `test/CLASS/**` and `val/CLASS/**`, at the root or inside the only folder there. They may
    be called as of `layout.WORDS`, in any case. For want of a `test/` with class folders, `val/` is the test split; for
    want of both, or of any split, as in `CLASS/**`, the images come in one part. Labels follow the sorted names of the
    class folders, samples the sorted paths of the files, as torchvision's ImageFolder has them. Names are compared in
    composed form. A class may lack test images.

    Raises:
        InputError: nothing readable at the path, another layout, fewer than two classes, a class without training
            images, a class folder without images, or two of one name.
    """
    path = request.path
    tree: Tree = FolderTree(path) if path.is_dir() else ZipTree(path)
    parts, places, notes = _find_splits(tree, request)
    train, test = places["train"], places["test"]
    if train and len(train.classes) < 2:
        raise InputError(
            f"{tree.locate(train.folder).rstrip('/')!r} holds {len(train.classes)} class folders: a classifier needs "
            "at least 2"
        )
    for place in (test, places["val"]):
        if train and place and (lonely := sorted(place.classes.keys() - train.classes.keys())):
            raise InputError(
                f"class {lonely[0]!r} is in {_name(place)}/ but not in {_name(train)}/ of {str(path)!r}: "
                "add training images of it, or remove the folder"
            )
    class_names = tuple(sorted((train or test or Place("", {})).classes))
    left_out = LeftOut()
    files = {split: _files(tree, place, class_names, left_out) for split, place in places.items()}
    image_size = request.image_size or default_size(tree, [*chain(*files["train" if train else "test"])])

    def split(name: str) -> Split:
        by_class = files[name]
        paths = tuple(chain(*by_class))
        return Split(
            LazyImages(tree, paths, image_size), np.repeat(np.arange(len(by_class)), [*map(len, by_class)]), paths
        )

    notes += [*tree.notes, *left_out.notes]
    return LongTailedData(
        path.stem,
        class_names,
        split("train"),
        split("test"),
        image_size,
        channels=3,
        notes=tuple(notes),
        val=split("val") if places["val"] else None,
        whole=parts.whole,
    )


def _find_splits(tree: Tree, request: Request) -> tuple[Arrangement, dict[str, Place | None], list[str]]:
    """Where the images of each split are, if they are needed, and notes on the folders that are not taken."""
    top = tree.list("").folders
    root = f"{top[0]}/" if len(top) == 1 and split_of(top[0]) is None else ""
    folders = tree.list(top[0]).folders if root else top
    where = tree.locate(root).rstrip("/")
    named = by_split(folders, f"data {where!r}")
    notes = _class_called_like_a_split(tree, root, folders, named)
    if not named or notes:
        parts = arranged(["train"], request.needs_train, request.needs_test)
        whole = {split: None if part is None else _class_folders(tree, root) for split, part in parts.splits.items()}
        return parts, whole, notes
    found = {split: Place(root + name, _classes(tree, root + name)) for split, name in named.items()}
    parts, labelled = _arranged(tree, found, request)
    if parts.whole:
        _refuse_unnamed(tree, root, folders, found["train"])
    places = {split: labelled[part] if part else None for split, part in parts.splits.items()}
    notes += _stand_in(places["test"], found, where)
    used = {PurePosixPath(place.folder).name for place in places.values() if place}
    if request.needs_train and request.needs_test and (unused := [f"{name}/" for name in folders if name not in used]):
        plural = "folder" if len(unused) == 1 else "folders"
        notes.append(f"{len(unused)} {plural} of {where} not taken: {listed(unused)}")
    return parts, places, notes


def _arranged(tree: Tree, found: dict[str, Place], request: Request) -> tuple[Arrangement, dict[str, Place]]:
    """Which part each split is, and the parts whose folders are classes."""
    train, held_out = found.get("train"), [found[split] for split in ("test", "val") if split in found]
    if train and not train.classes and not request.needs_train:
        train = None
    labelled = {split: place for split, place in found.items() if split != "train" and _labelled(place, train)}
    if train:
        labelled["train"] = train
    parts = arranged(labelled, request.needs_train, request.needs_test)
    lacking = (not train and (request.needs_train or parts.whole)) or (held_out and request.needs_test and parts.whole)
    if lacking:
        raise InputError(f"data {str(tree.path)!r} {_lacking(train, held_out, request)}")
    return parts._replace(whole=parts.whole and not held_out), labelled


def _class_called_like_a_split(tree: Tree, root: str, folders: list[str], named: dict[str, str]) -> list[str]:
    """A sentence on the one folder that is called like a split but holds images, among others that do."""
    if len(named) != 1 or len(folders) == 1:
        return []
    (name,) = named.values()
    holding = [any(map(_is_image, tree.list(root + folder).files)) for folder in folders]
    if tree.list(root + name).folders or not all(holding):
        return []
    return [
        f"{name}/ of {tree.locate(root).rstrip('/')} holds images, as the folders beside it: it is taken for a class"
    ]


def _refuse_unnamed(tree: Tree, root: str, folders: list[str], train: Place) -> None:
    """Refuses training images alone where a folder beside them may be what they are to be tested on."""
    for name in folders:
        if name != _name(train) and not train.classes.keys().isdisjoint(_classes(tree, root + name)):
            raise InputError(
                f"data {str(tree.path)!r} has no test/ folder, but {name}/ has folders of the same classes as "
                f"{_name(train)}/: rename it to test/ or val/, or give --data {tree.locate(train.folder)}"
            )


def _stand_in(test: Place | None, found: dict[str, Place], where: str) -> list[str]:
    """A sentence where validation images are the test split."""
    if test is None or test is not found.get("val"):
        return []
    lacks = f"{_name(found['test'])}/ of {where} has no folders of the classes" if "test" in found else None
    return [f"{lacks or f'{where} has no test/'}, so {_name(test)}/ is the test split"]


def _class_folders(tree: Tree, root: str) -> Place:
    """The place whose folders are the classes: the root, or the one above it that holds only that folder."""
    places = (Place(folder, _classes(tree, folder)) for folder in dict.fromkeys((root.rstrip("/"), "")))
    whole = next((place for place in places if place.classes), None)
    if whole is None:
        raise InputError(
            f"data {str(tree.path)!r} has no folders: arrange the images as CLASS/*, or as train/CLASS/* and "
            "test/CLASS/*"
        )
    return whole


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
    return (
        "has no train/ folder with a test/ or val/ folder beside it: "
        "arrange the images as train/CLASS/* and test/CLASS/*, or all of them as CLASS/*"
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
        _images(tree, "/".join(filter(None, (place.folder, place.classes[name]))), left_out)
        if name in place.classes
        else []
        for name in class_names
    ]


def _images(tree: Tree, folder: str, left_out: LeftOut) -> list[str]:
    """The paths of the images in a class folder and in those inside it."""
    images: list[str] = []
    for inside, listing in walk(tree, folder):
        taken = [file for file in listing.files if _is_image(file)]
        images += (f"{inside}/{file}" for file in taken)
        kinds = [ending(file) for file in listing.files if not _is_image(file)]
        # ._ is what macOS notes of the file whose name follows.
        hidden = [file for file in listing.hidden if _is_image(file) and not file.startswith("._")]
        kinds += ["hidden"] * len(hidden)
        if kinds:  # classes may be many, and to write a path costs more than to list it
            left_out.add(tree.locate(folder), kinds)
    if not images:
        raise InputError(
            f"class folder {tree.locate(folder)!r} holds no image "
            f"({', '.join(sorted(EXTENSIONS))}): add one or remove the folder"
        )
    return images


def _is_image(file: str) -> bool:
    at = file.rfind(".")
    return at > 0 and file[at:].lower() in EXTENSIONS


def _name(place: Place) -> str:
    return PurePosixPath(place.folder).name


def _matches(data: str) -> bool:
    path = expanded(data)
    return path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip")


SOURCE = Source("folder", matches=_matches, load=load, general=True)
