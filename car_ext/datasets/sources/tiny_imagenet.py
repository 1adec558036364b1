"""Tiny-ImageNet as it is distributed: a folder tiny-imagenet-200, or the .zip file of it."""

from pathlib import Path

import numpy as np

from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree, ZipTree
from car_ext.errors import InputError

FOLDER = "tiny-imagenet-200"


def load(root: Path, image_size: int | None) -> LongTailedData:
    """Lists Tiny-ImageNet without decoding it; its validation images, which have labels, are the test split.

    Layout: `train/WNID/images/*`, `val/images/*` and `val/val_annotations.txt`. Labels follow the sorted WordNet ids,
    training images the sorted names of the files, test images the lines of the annotations.

    Args:
        root: folder that holds tiny-imagenet-200 or tiny-imagenet-200.zip.
        image_size: stored height and width in pixels; None is `sample.default_size`, 64.

    Raises:
        InputError: neither is there, or not in this layout.
    """
    tree = FolderTree(root) if (root / FOLDER).is_dir() else ZipTree(root / f"{FOLDER}.zip")
    class_names = tree.list(f"{FOLDER}/train").folders
    folders = [f"{FOLDER}/train/{name}/images" for name in class_names]
    by_class = [[f"{folder}/{file}" for file in tree.list(folder).files] for folder in folders]
    files = [file for names in by_class for file in names]
    if not files:
        raise InputError(f"{tree.locate(f'{FOLDER}/train')!r} holds no train/WNID/images/*: check its layout")
    targets = np.repeat(np.arange(len(class_names)), [len(names) for names in by_class])
    image_size = image_size or default_size(tree, files)
    train = Split(LazyImages(tree, files, image_size), targets, tuple(files))
    test = _annotated(tree, class_names, image_size)
    return LongTailedData("tiny_imagenet", tuple(class_names), train, test, image_size, channels=3)


def _annotated(tree: FolderTree | ZipTree, class_names: list[str], image_size: int) -> Split:
    """The validation images and their labels."""
    annotations = f"{FOLDER}/val/val_annotations.txt"
    labels = {name: label for label, name in enumerate(class_names)}
    there = set(tree.list(f"{FOLDER}/val/images").files)
    files, targets = [], []
    for number, line in enumerate(tree.read(annotations).decode("utf-8", "replace").splitlines(), start=1):
        file, wnid, *_ = [*line.split("\t"), "", ""]  # a bounding box follows
        if file not in there or wnid not in labels:
            raise InputError(
                f"line {number} of {tree.locate(annotations)!r} names the image {file!r} and the class {wnid!r}, "
                "which are not both there: unpack the archive again"
            )
        files.append(f"{FOLDER}/val/images/{file}")
        targets.append(labels[wnid])
    return Split(LazyImages(tree, files, image_size), np.array(targets, np.int64), tuple(files))


SOURCE = Source(
    "Tiny-ImageNet",
    matches="tiny_imagenet".__eq__,
    load=lambda request: load(request.root, request.image_size),
    options=("data_root",),
    names=("tiny_imagenet",),
    side=64,
    selection="seeded",
)
