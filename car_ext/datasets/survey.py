"""A look at every image of a data set: what is there, what cannot be read, and what is there twice."""

import hashlib
import io
import os
import re
import statistics
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from tqdm import tqdm

from car_ext.datasets import picture, twins
from car_ext.datasets.content import content, locate
from car_ext.datasets.decode import FORMATS
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.notes import unmeasured
from car_ext.datasets.overview import counts_of, follows, overview, ratio
from car_ext.datasets.split import Images, LongTailedData, Split
from car_ext.errors import InputError
from car_ext.priors import shot_groups

LOOKED_AT = 2 * twins.SIDE  # pixels that an image is decoded to
TOGETHER = 32  # images that a thread looks at before it hands them over


class Seen(NamedTuple):
    """One image.

    Attributes:
        split: "train", "val" or "test".
        position: of it there.
        digest: of its file, or of its pixels where it has none; b"" where it cannot be read.
        hash: of what it looks like, as of `twins.looks`; None where it holds nearly one value or cannot be decoded.
        size: width and height in pixels.
        format, mode: in Pillow's words; "" where it lies in no file.
        fault: why it cannot be decoded, else "".
    """

    split: str
    position: int
    digest: bytes = b""
    hash: int | None = None
    size: tuple[int, int] = (0, 0)
    format: str = ""
    mode: str = ""
    fault: str = ""


def survey(data: LongTailedData, progress: bool = True) -> dict[str, Any]:
    """What `car-ext data` tells, ready for JSON.

    Args:
        data: as `list_data` lists them.
        progress: show a bar on a terminal.

    Returns:
        - data, overview (`overview.overview`), notes (`LongTailedData.notes`, and classes that no test image measures);
        - splits: split to number of images; classes: name, images of each split and shot group of each;
        - imbalance_ratio; groups: how many classes have many, medium and few training images;
        - width, height: [smallest, median, largest] of the images that can be read; formats, modes: how many of each;
        - unreadable: file, split, class and reason of each image that cannot be decoded;
        - copies: groups of images of one content; near: of images that look alike (`twins.near`, up to `near_bits` of
          64 bits differ) and are not all copies; each with images (file, split, class, position), and the splits and
          classes that it spans; flat: images that hold nearly one value, which are not compared by looks;
        - leaks: images of the test or validation split that are, or look like, images of another split;
        - several_labels: groups whose images have several classes;
        - follows: what all this means, in sentences.
    """
    splits = {name: split for name in ("train", "val", "test") if (split := getattr(data, name))}
    seen = list(_all_seen(splits, progress))
    readable = [image for image in seen if not image.fault]
    same, alike = _copies(seen), _alike(readable)
    facts: dict[str, Any] = {
        "data": data.name,
        "overview": overview(data)[:2],
        "notes": [*data.notes, *unmeasured(data.class_names, data.test.targets, data.name)],
        "splits": {name: len(split) for name, split in splits.items()},
        "classes": _classes(data),
        "imbalance_ratio": ratio(data.class_counts),
        "groups": {name: int(mask.sum()) for name, mask in shot_groups(data.class_counts).items()},
        "width": _spread(image.size[0] for image in readable),
        "height": _spread(image.size[1] for image in readable),
        "formats": dict(Counter(image.format for image in readable if image.format).most_common()),
        "modes": dict(Counter(image.mode for image in readable if image.mode).most_common()),
        "unreadable": [{**_named(data, image), "reason": image.fault} for image in seen if image.fault],
        "copies": [_group(data, group) for group in same],
        "near": [_group(data, group) for group in alike],
        "near_bits": twins.NEAR,
        "flat": sum(image.hash is None for image in readable),
    }
    groups = [*facts["copies"], *facts["near"]]
    facts["leaks"] = len({(image["split"], image["position"]) for group in groups for image in _leaking(group)})
    facts["several_labels"] = sum(len(group["classes"]) > 1 for group in groups)
    return facts | {"follows": [*_follows(facts), *follows(data)]}


def _all_seen(splits: dict[str, Split], progress: bool) -> Iterator[Seen]:
    """Every image, in order."""
    jobs = [
        (name, split.images, range(start, min(start + TOGETHER, len(split))))
        for name, split in splits.items()
        for start in range(0, len(split), TOGETHER)
    ]
    total = sum(map(len, splits.values()))
    with (
        ThreadPoolExecutor(os.cpu_count()) as pool,
        tqdm(total=total, desc="looking", unit="image", disable=None if progress else True, leave=False) as bar,
    ):
        for found in pool.map(lambda job: _seen(*job), jobs):
            bar.update(len(found))
            yield from found


def _seen(name: str, images: Images | np.ndarray, indices: Iterable[int]) -> list[Seen]:
    found, greys = [], []
    for index in indices:
        image, grey = _looked_at(name, images, index)
        found.append(image)
        greys.append(np.zeros((twins.SIDE, twins.SIDE)) if grey is None else grey)
    hashes = twins.looks(np.stack(greys)).tolist()
    flat = [bool(np.ptp(grey) < picture.FLAT) for grey in greys]
    return [
        image._replace(hash=None if is_flat else number)
        for image, number, is_flat in zip(found, hashes, flat, strict=True)
    ]


def _looked_at(name: str, images: Images | np.ndarray, index: int) -> tuple[Seen, np.ndarray | None]:
    """What is told of an image, and its grey (32, 32)."""
    place = locate(images, index)
    try:
        data = content(images, index)
    except InputError as error:
        return Seen(name, index, fault=str(error)), None
    digest = hashlib.blake2b(data, digest_size=16).digest()
    if not isinstance(images, LazyImages):
        pixels = images[index]
        image = Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[..., 0])
        return Seen(name, index, digest, size=image.size), _grey(np.array(picture.square(image, LOOKED_AT)))
    try:
        pixels = picture.decode(data, LOOKED_AT, place)
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return Seen(name, index, digest, None, image.size, image.format or "", image.mode), _grey(pixels)
    except picture.Undecodable as error:
        (reason,) = re.findall(r"\((.*)\): replace or remove it$", str(error))
        return Seen(name, index, digest, fault=reason), None


def _grey(pixels: np.ndarray) -> np.ndarray:
    """The mean of the channels of a square, in a quarter of its pixels."""
    grey = pixels.reshape(*pixels.shape[:2], -1).mean(axis=2)
    return grey.reshape(twins.SIDE, 2, twins.SIDE, 2).mean(axis=(1, 3))


def _copies(seen: Sequence[Seen]) -> list[list[Seen]]:
    known = [image for image in seen if image.digest]
    return [[known[at] for at in group] for group in twins.copies([image.digest for image in known])]


def _alike(readable: Sequence[Seen]) -> list[list[Seen]]:
    """Groups of images that look alike, but for those of copies alone."""
    looked = [image for image in readable if image.hash is not None]
    hashes, number = np.unique(np.array([image.hash for image in looked], np.uint64), return_inverse=True)
    of_hash = np.split(np.argsort(number, kind="stable"), np.cumsum(np.bincount(number, minlength=len(hashes)))[:-1])
    alone = [np.array([at]) for at in range(len(hashes))]
    joined = twins.groups(twins.near(hashes), len(hashes))
    taken = {int(at) for group in joined for at in group}
    found = []
    for group in [*joined, *(at for at in alone if int(at[0]) not in taken)]:
        images = [looked[index] for index in sorted(int(index) for at in group for index in of_hash[at])]
        if len({image.digest for image in images}) > 1:
            found.append(images)
    return sorted(found, key=lambda images: (images[0].split, images[0].position))


def _classes(data: LongTailedData) -> list[dict[str, Any]]:
    counts = {name: counts_of(getattr(data, name), data.num_classes).tolist() for name in ("train", "val", "test")}
    masks = shot_groups(data.class_counts)
    return [
        {
            "name": name,
            **{split: numbers[label] for split, numbers in counts.items()},
            "group": next(group for group, mask in masks.items() if mask[label]),
        }
        for label, name in enumerate(data.class_names)
    ]


def _spread(values: Iterable[int]) -> list[int] | None:
    known = sorted(values)
    return [known[0], int(statistics.median_low(known)), known[-1]] if known else None


def _named(data: LongTailedData, image: Seen) -> dict[str, Any]:
    split: Split = getattr(data, image.split)
    file = split.files[image.position] if split.files else f"number {image.position}"
    return {
        "file": file,
        "split": image.split,
        "class": data.class_names[split.targets[image.position]],
        "position": image.position,
    }


def _group(data: LongTailedData, images: Sequence[Seen]) -> dict[str, Any]:
    named = [_named(data, image) for image in images]
    return {
        "images": named,
        "splits": list(dict.fromkeys(image["split"] for image in named)),
        "classes": list(dict.fromkeys(image["class"] for image in named)),
    }


def _leaking(group: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a group that stand in for new ones although another split has them: all but the training images."""
    if len(group["splits"]) < 2:
        return []
    first = min(group["splits"], key=["train", "val", "test"].index)
    return [image for image in group["images"] if image["split"] != first]


def _follows(facts: dict[str, Any]) -> list[str]:
    """What the images themselves mean, in sentences."""
    sentences = []
    if unreadable := len(facts["unreadable"]):
        sentences.append(
            f"{_number(unreadable, 'image')} cannot be read: training stops at the first; replace or remove them"
        )
    if leaks := facts["leaks"]:
        sentences.append(
            f"{_number(leaks, 'test or validation image')} {'is' if leaks == 1 else 'are'} in another split too, "
            "exactly or nearly: scores will be too good; remove them, or keep what belongs together in one split with "
            "--groups"
        )
    if several := facts["several_labels"]:
        sentences.append(f"{_number(several, 'group')} of copies or near copies with several labels: some are wrong")
    return sentences


def _number(number: int, noun: str) -> str:
    return f"{number:,} {noun}" + ("" if number == 1 else "s")
