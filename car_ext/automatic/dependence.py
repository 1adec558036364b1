"""Which training images belong together, because they show the same: named, told by their names, or found."""

import re
from collections import Counter
from dataclasses import dataclass

import numpy as np

from car_ext.datasets.draw import group_numbers
from car_ext.datasets.split import Split
from car_ext.datasets.twins import groups as connected
from car_ext.datasets.twins import looks, near

NUMBERED = re.compile(r"(.*?)[_\-. ]*\d+(\.\w+)?$")  # a file's name without the number at its end
ALIKE = 0.5  # share of images whose nearest neighbour must be of the group, for a pattern in names to be believed
MARGIN = 3.0  # and how many times as often as chance would have it
SAMPLE = 2000  # images that are looked at for it
CLOSE = 0.98  # cosine of features from which images count as nearly the same


@dataclass(frozen=True)
class Dependence:
    """Groups of images.

    Attributes:
        numbers: (N,) int64 group of each image.
        source: how they were found, a clause; empty where every image is on its own.
    """

    numbers: np.ndarray
    source: str


def dependence(split: Split, features: np.ndarray | None, grey: np.ndarray, named: str | None) -> Dependence:
    """The groups of a training split: those that the user names, else a believed pattern in names and near copies.

    Names such as `00012_00003.png` have a number at their end; what stands before it is a group where an image's
    nearest neighbour by its features is of the same group for at least half of a sample, and three times as often as
    chance. Images with nearly the same perceptual hash, or features at a cosine of at least 0.98, are joined besides.

    Args:
        split: N images.
        features: (N, D) of pretrained weights; None where there are none: nothing but hashes and names is compared.
        grey: (N, 32, 32), for the hashes.
        named: as of `draw.group_numbers`; then nothing is searched.

    Raises:
        InputError: as of `draw.group_numbers`.
    """
    if named:
        return Dependence(group_numbers(split, named), f"groups named by {named!r}")
    if split.groups:
        return Dependence(np.unique(np.array(split.groups), return_inverse=True)[1].astype(np.int64), "its own groups")
    unit = None if features is None else _unit(features)
    sources: list[str] = []
    links = _near_copies(grey, unit)
    if len(links):
        sources.append(f"near copies ({len(np.unique(links)):,} images)")
    stems = _stems(split)
    if stems is not None and unit is not None and _believed(stems, split.targets, unit):
        sources.append("names that differ in the number at their end alone")
        order = np.argsort(stems, kind="stable")
        same = np.flatnonzero(stems[order][1:] == stems[order][:-1])
        links = np.concatenate([links, np.stack([order[same], order[same + 1]], axis=1)])
    numbers = np.arange(len(split))
    for group in connected(links, len(split)) if len(links) else []:
        numbers[group] = group[0]
    return Dependence(np.unique(numbers, return_inverse=True)[1].astype(np.int64), " and ".join(sources))


def _unit(features: np.ndarray) -> np.ndarray:
    """Of length one, about their mean: what all images share says nothing."""
    centred = features - features.mean(axis=0)
    return centred / np.maximum(np.linalg.norm(centred, axis=1, keepdims=True), 1e-12)


def _near_copies(grey: np.ndarray, unit: np.ndarray | None) -> np.ndarray:
    """(P, 2) positions."""
    hashes, where = np.unique(looks(grey), return_inverse=True)
    order = np.argsort(where, kind="stable")
    equal = np.flatnonzero(where[order][1:] == where[order][:-1])
    first = order[np.searchsorted(where[order], np.arange(len(hashes)))]
    found = [np.stack([order[equal], order[equal + 1]], axis=1), first[near(hashes)]]
    if unit is not None:
        for start in range(0, len(unit), 1024):
            rows, columns = np.nonzero(unit[start : start + 1024] @ unit.T >= CLOSE)
            found.append(np.stack([rows + start, columns], axis=1)[rows + start < columns])
    return np.concatenate(found).astype(np.int64)


def _stems(split: Split) -> np.ndarray | None:
    """Numbers (N,) of the names without their last number; None where these say nothing."""
    matches = [NUMBERED.match(name) for name in split.files]
    if not matches or not all(matches):
        return None
    stems = [match[1] for match in matches if match]
    counts = Counter(stems)
    folders = len({name.rpartition("/")[0] for name in split.files})
    # One stem a folder, as img_0001.jpg has, is the class; as many as images is nothing.
    if len(counts) <= 2 * folders or len(counts) > 0.7 * len(stems):
        return None
    return np.unique(np.array(stems), return_inverse=True)[1]


def _believed(stems: np.ndarray, targets: np.ndarray, unit: np.ndarray) -> bool:
    """Whether images of one stem are more alike than others of their class."""
    chosen = np.unique(np.linspace(0, len(stems) - 1, min(SAMPLE, len(stems))).astype(int))
    among = np.bincount(stems)[stems] > 1
    chosen = chosen[among[chosen]]
    if not len(chosen):
        return False
    hits, chances = [], []
    for label in np.unique(targets[chosen]):
        members = np.flatnonzero(targets == label)
        asked = chosen[targets[chosen] == label]
        similar = unit[asked] @ unit[members].T
        similar[members[None] == asked[:, None]] = -np.inf
        hits.append(stems[members[similar.argmax(axis=1)]] == stems[asked])
        chances.append(((stems[members][None] == stems[asked][:, None]).sum(axis=1) - 1) / max(len(members) - 1, 1))
    share, chance = float(np.concatenate(hits).mean()), float(np.concatenate(chances).mean())
    return share >= ALIKE and share >= min(MARGIN * chance, (1 + chance) / 2)
