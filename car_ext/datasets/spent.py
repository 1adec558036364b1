"""By what images are known again wherever their files lie, so that none that a model was trained on is ever scored."""

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, BinaryIO

import numpy as np

from car_ext.datasets.draw import group_numbers
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.split import LongTailedData, Spent
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError

BYTES = 6  # of an identity: two of a million images are taken for one with a chance of 1 in 500
PIECE = 4096  # bytes read in the middle and at the end of a file
THREADS = 8


def described(spent: Spent | None) -> dict[str, Any]:
    """What a run and an exported file note of the images that they may not be scored on, ready for JSON.

    That is the images' identities in base64, 8 bytes an image; how many others the data had where they came in one
    part, else None; and what kept images together. Of data that bring splits of their own the files of folders alone
    are looked at: others cost more to read.
    """
    spent = spent or Spent((), None)
    looked_at = [
        part
        for part in spent.images
        if isinstance(part, LazyImages) and (spent.others is not None or isinstance(part.source, FolderTree))
    ]
    found = np.unique(np.concatenate([np.empty(0, np.uint64), *map(identities, looked_at)]))
    packed = found.astype("<u8").view(np.uint8).reshape(-1, 8)[:, :BYTES]
    return {"images": base64.b64encode(packed.tobytes()).decode(), "others": spent.others, "groups": spent.groups}


def identities(images: LazyImages) -> np.ndarray:
    """A number for the content of each file, (N,) uint64: of its size and of pieces from its middle and its end.

    Raises:
        InputError: a file cannot be read.
    """
    starts = range(0, len(images), 64)
    with ThreadPoolExecutor(THREADS) as pool:
        found = pool.map(lambda start: [_identity(images, key) for key in images.keys[start : start + 64]], starts)
        return np.array([number for of_some in found for number in of_some], np.uint64)


def _identity(images: LazyImages, key: Any) -> int:
    source = images.source
    with source.open(key) if isinstance(source, FolderTree) else io.BytesIO(source.read(key)) as file:
        return _of_file(file)


def _of_file(file: BinaryIO) -> int:
    size = file.seek(0, io.SEEK_END)
    digest = hashlib.blake2b(size.to_bytes(8, "little"), digest_size=BYTES)
    for start in (size // 2, size - PIECE):
        file.seek(max(0, start))
        digest.update(file.read(PIECE))
    return int.from_bytes(digest.digest(), "little")


def common_groups(models: Iterable[Mapping[str, Any] | None]) -> str | None:
    """What kept images together when models were trained, of the first one that says so."""
    return next((model["groups"] for model in models if model and model["groups"]), None)


def without(
    data: LongTailedData, models: Iterable[Mapping[str, Any] | None], groups: str | None = None
) -> LongTailedData:
    """Data that come in one part without the test images that any of some models may not be scored on.

    Args:
        data: with a test split alone.
        models: what `described` noted of each; None of one that does not say.
        groups: what keeps images together: those of a group that a model has seen are left out as well.

    Raises:
        InputError: no image is left, a file cannot be read, or the groups cannot be told.
    """
    models = list(models)
    if not data.whole or not isinstance(data.test.images, LazyImages) or not models:
        return data
    notes = []
    if unknown := sum(model is None for model in models):
        notes.append(
            f"{unknown} of {len(models)} models, of an older version, cannot say which images they were trained on: "
            f"images of {data.name} that are among them are scored too"
        )
    found, seen = identities(data.test.images), np.zeros(len(data.test), bool)
    for model in filter(None, models):
        among = np.isin(found, _unpacked(model["images"]))
        seen |= among
        others = model["others"]
        if among.any() and others is not None and len(found) - among.sum() != others:
            notes.append(
                f"{data.name} is not what it was in training: it had {others:,} images besides those of the training "
                f"part then, and has {len(found) - among.sum():,} now"
            )
    if groups and seen.any():
        numbers = group_numbers(data.test, groups)
        seen = np.isin(numbers, numbers[seen])
    if seen.all():
        raise InputError(
            f"all {len(found):,} images of data {data.name!r} belong to what the model was trained on, so a score "
            "would measure nothing: give images that it has not seen"
        )
    if seen.any():
        notes.append(
            f"{seen.sum():,} of {len(found):,} images of {data.name} belong to what the model was trained on and are "
            f"not scored; the other {len(found) - seen.sum():,} are"
        )
    return replace(data, test=data.test.take(np.flatnonzero(~seen)), notes=(*data.notes, *dict.fromkeys(notes)))


def _unpacked(images: str) -> np.ndarray:
    packed = np.frombuffer(base64.b64decode(images), np.uint8).reshape(-1, BYTES)
    return np.pad(packed, ((0, 0), (0, 8 - BYTES))).reshape(-1).view("<u8").astype(np.uint64)
