"""Images of one split that are in another too, which makes scores too good."""

import hashlib
from collections.abc import Hashable
from typing import TypeAlias

import numpy as np

from car_ext.datasets.content import content, locate, sketch, stored_bytes
from car_ext.datasets.lazy import LazyImages, ResizedImages
from car_ext.datasets.mapped import MappedImages
from car_ext.datasets.split import Images, LongTailedData
from car_ext.text import listed

MOST_FILES = 20_000  # whose sizes are asked for
MOST_BYTES = 1 << 31  # of files that are read
Stored: TypeAlias = Images | np.ndarray
PAIRS = (("test", "train", "scores"), ("test", "val", "scores"), ("val", "train", "choices by validation images"))


def shared(stored: LongTailedData, held: LongTailedData) -> list[str]:
    """Sentences on test images that are training or validation images too, and on validation images of training.

    Images that are held in memory are compared by their pixels. Files are compared by their bytes, those of one size
    only, and in large data sets by their paths alone, which another sentence says.

    Args:
        stored: the data as they lie in their files.
        held: the same data, of which splits may be held in memory.

    Raises:
        InputError: a file cannot be read.
    """
    words = {"train": "training", "val": "validation", "test": "test"}
    notes = []
    for part, other, harm in PAIRS:
        first, second = getattr(stored, other), getattr(stored, part)
        if first is None or second is None:
            continue
        found, unread = _of_pair(first.images, second.images, getattr(held, other).images, getattr(held, part).images)
        these, those = words[part], words[other]
        if unread:
            notes.append(
                f"whether {these} images of {held.name} are {those} images too was told by path only: {unread}"
            )
        if found:
            pairs = [f"{locate(second.images, mine)} ({locate(first.images, its)})" for mine, its in found.items()]
            are = f"image is also a {those} image" if len(found) == 1 else f"images are also {those} images"
            notes.append(
                f"{len(found):,} {these} {are}, which makes {harm} of {held.name} too good: {listed(pairs, 3)}"
            )
    return notes


def common(one: Stored, other: Stored) -> int:
    """How many images of the other are in the one too, compared as `shared` does.

    Raises:
        InputError: a file cannot be read.
    """
    return len(_of_pair(one, other, one, other)[0])


def _of_pair(train: Stored, test: Stored, *held: Stored) -> tuple[dict[int, int], str]:
    """Index of an image of the second split to that of a twin in the first, and why bytes were not read."""
    if all(isinstance(images, np.ndarray | ResizedImages | MappedImages) for images in held):
        first, second = held
        return _of_one_content(first, second, *_of_one_sketch(first, second)), ""
    return _of_one_file(train, test)


def _of_one_file(train: Stored, test: Stored) -> tuple[dict[int, int], str]:
    """Index of a test image to that of a training image of the same bytes or path, and why bytes were not read."""
    if len(train) + len(test) > MOST_FILES:
        return _of_one_path(train, test), f"they are more than {MOST_FILES:,} files"
    train_indices, test_indices = _of_one_sketch(train, test)
    if stored_bytes(train, train_indices) + stored_bytes(test, test_indices) > MOST_BYTES:
        return _of_one_path(train, test), f"they have more than {MOST_BYTES:,} bytes in files of one size"
    return _of_one_content(train, test, train_indices, test_indices), ""


def _of_one_path(train: Stored, test: Stored) -> dict[int, int]:
    if not (isinstance(train, LazyImages) and isinstance(test, LazyImages) and train.source is test.source):
        return {}
    first = {key: index for index, key in reversed([*enumerate(train.keys)])}
    return {index: first[key] for index, key in enumerate(test.keys) if key in first}


def _of_one_sketch(train: Stored, test: Stored) -> tuple[list[int], list[int]]:
    """The training and the test images that may have a twin in the other split."""
    sketches: list[list[Hashable]] = [[sketch(images, i) for i in range(len(images))] for images in (train, test)]
    both = {*sketches[0]} & {*sketches[1]}
    train_indices, test_indices = ([i for i, mine in enumerate(part) if mine in both] for part in sketches)
    return train_indices, test_indices


def _of_one_content(train: Stored, test: Stored, train_indices: list[int], test_indices: list[int]) -> dict[int, int]:
    """Index of a test image to that of the first training image of the same content, among those given."""
    first = {_digest(train, index): index for index in reversed(train_indices)}
    digests = {index: _digest(test, index) for index in test_indices}
    return {index: first[digest] for index, digest in digests.items() if digest in first}


def _digest(images: Stored, index: int) -> bytes:
    return hashlib.sha256(content(images, index)).digest()
