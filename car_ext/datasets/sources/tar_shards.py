"""Tar shards as WebDataset writes them: the files of a sample lie side by side and share their name up to a dot."""

import json
import re
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from car_ext.datasets.decode import EXTENSIONS
from car_ext.datasets.labels import Classes, Labelled, check_counts, known_targets
from car_ext.datasets.layout import arranged, split_of
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.notes import LeftOut, ending
from car_ext.datasets.options import expanded
from car_ext.datasets.rows import LABELS, whole_number
from car_ext.datasets.sample import default_size
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tars import Member, Tars, members
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError
from car_ext.text import listed

FILE = re.compile(
    r"(?P<name>.*?)[-_.]?(?P<number>[0-9]+)(?:-of-(?P<of>[0-9]+))?\.tar(?P<packed>\.(?:gz|bz2|xz|zst))?", re.IGNORECASE
)
KINDS = ("cls", "json", "txt")  # endings of members that hold a label: the first that there is counts
KEYS = (*LABELS, "cls")  # of a JSON object, the label
LONGEST = 1 << 20  # bytes of such a member


class Sample(NamedTuple):
    """An image in a shard, and the members beside it that may hold its label, by their ending."""

    image: Member
    labels: dict[str, Member]


class Part(NamedTuple):
    """The shards that hold a split, as paths below the folder, and the samples in them."""

    shards: list[str]
    samples: list[Sample]


def load(request: Request) -> LongTailedData:
    """Lists the images of tar shards without decoding them; nothing in them is unpacked to disk, run or unpickled.

    Layout: `NAME-000000.tar`, `NAME-000001.tar` and so on, where a part of NAME says the split, as in
    `imagenet-train-0000.tar`, or in folders called like splits; splits may be called as of `layout.WORDS`. Shards that
    name no split come in one part, and so does a single file. A sample is KEY.jpg, or another ending of
    `decode.EXTENSIONS`, with KEY.cls, KEY.json or KEY.txt beside it, of which the first kind that there is holds the
    labels: whole numbers from 0 on, or text, whose sorted values are the classes. Of a JSON object the label is what
    label_column or one of `KEYS` names. Samples keep the order of the shards. A class may lack test images.

    Raises:
        InputError: shards that are missing, damaged or compressed, that hold a pickle, an unsafe path or two images of
            one sample, labels that are none, or a class without training images.
    """
    path, left_out = request.path, LeftOut()
    tree, files, notes = _shards(path, left_out)
    if request.needs_train and "train" not in files:
        raise InputError(f"data {str(path)!r} has shards for {' and '.join(files)} only: it needs train-*.tar too")
    parts = arranged(files, request.needs_train, request.needs_test)
    found = {part: Part(files[part], _samples(tree, files[part], left_out)) for part in parts.splits.values() if part}
    training, looked_at = parts.train is not None, parts.train or parts.test or "train"
    kind = _kind(found[looked_at], path, request.options.label_column)
    for name, part in found.items():
        notes += _drop_unlabelled(part, kind, f"{name} shards of {path}")
    labels = _labels(tree, found, kind, request.options.label_column)
    classes = Classes([labels[looked_at]], training)
    sources = {name: Tars(tree, part.shards, [sample.image for sample in part.samples]) for name, part in found.items()}
    targets = {name: known_targets([labels[name]], classes, sources[name].locate) for name in found}
    check_counts(targets[looked_at], training, classes, f"the {looked_at} shards of {str(path)!r}")
    image_size = request.image_size or default_size(sources[looked_at], range(len(sources[looked_at])))
    if parts.test == "val":
        notes.append(f"{path} has no test shards, so the validation shards are the test split")

    def split(name: str | None) -> Split:
        source = sources[name] if name else Tars(tree, (), ())
        keys = range(len(source))
        labels = targets[name] if name else np.empty(0, np.int64)
        return Split(LazyImages(source, keys, image_size), labels, tuple(map(source.file, keys)))

    return LongTailedData(
        path.stem,
        classes.names,
        split(parts.train),
        split(parts.test),
        image_size,
        channels=3,
        notes=(*notes, *left_out.notes),
        val=split(parts.val) if parts.val else None,
        whole=parts.whole,
    )


def _shards(path: Path, left_out: LeftOut) -> tuple[FolderTree, dict[str, list[str]], list[str]]:
    """The folder, split to its shards in order, and notes; all shards are "train" where none names a split."""
    if path.is_file():
        return FolderTree(path.parent), {"train": [path.name]}, []
    tree = FolderTree(path)
    named: dict[tuple[str, str], list[str]] = {}  # split, or "", and name
    for folder in ("", *(f"{name}/" for name in tree.list("").folders if split_of(name))):
        for file in tree.list(folder.rstrip("/")).files:
            if match := FILE.fullmatch(file):
                split = _split(match["name"], tree.locate(folder + file)) or split_of(folder.rstrip("/")) or ""
                named.setdefault((split, folder + match["name"]), []).append(folder + file)
            else:
                left_out.add(tree.locate(folder).rstrip("/"), [ending(file)])
    notes: list[str] = []
    return tree, _by_split(tree, named, left_out, notes), notes


def _by_split(
    tree: FolderTree, named: dict[tuple[str, str], list[str]], left_out: LeftOut, notes: list[str]
) -> dict[str, list[str]]:
    """Split to its shards in order, all "train" where none names a split; each split has those of one name."""
    found: dict[str, list[str]] = {}
    for (split, _), files in named.items():
        if split in found:
            what = f"for the {split} split" if split else "of no split"
            names = listed(f"{name}-*.tar" for other, name in named if other == split)
            raise InputError(
                f"data {str(tree.path)!r} has shards of several names {what} ({names}): keep one of them, or call them "
                "train-*.tar and test-*.tar"
            )
        found[split] = sorted(files, key=_number)
    others = found.pop("", [])
    if found:
        left_out.add(str(tree.path), [".tar of no split"] * len(others))
    else:
        found = {"train": others}
    for files in found.values():
        notes += _check_complete(tree, files)
    return {split: found[split] for split in ("train", "test", "val") if split in found}


def _split(name: str, where: str) -> str | None:
    """The split that a part of the name of shards says; None where none does."""
    found = {split for word in re.split("[-_.]", name) if (split := split_of(word))}
    if len(found) > 1:
        raise InputError(f"shard {where!r} is called like several splits ({', '.join(sorted(found))}): rename it")
    return next(iter(found), None)


def _number(file: str) -> int:
    match = FILE.fullmatch(file.rpartition("/")[2])
    return int(match["number"]) if match else 0


def _check_complete(tree: FolderTree, files: Sequence[str]) -> list[str]:
    """Refuses compressed shards and a number that is missing or there twice.

    Returns:
        A sentence where the numbers begin at 1.
    """
    for file in files:
        match = FILE.fullmatch(file.rpartition("/")[2])
        if match and match["packed"]:
            raise InputError(
                f"shard {tree.locate(file)!r} is compressed, so that no image can be read without all before it: "
                "unpack it to .tar (gunzip)"
            )
        if match and match["of"] and int(match["of"]) != len(files):
            raise InputError(
                f"shard {tree.locate(file)!r} is one of {int(match['of'])}, but {len(files)} are there: fetch the "
                "others"
            )
    numbers = [_number(file) for file in files]
    first = min(numbers[0], 1)
    if numbers != [*range(first, first + len(numbers))]:
        raise InputError(
            f"the {len(files)} shards like {tree.locate(files[0])!r} do not have every number from {first} to "
            f"{numbers[-1]} once: fetch those that are missing"
        )
    return [f"the shards of {tree.path} begin at {files[0]}: there is no number 0"] if first else []


def _samples(tree: FolderTree, shards: list[str], left_out: LeftOut) -> list[Sample]:
    """The images of shards and what may label them, in order; other members are counted as left out."""
    samples = []
    for shard in range(len(shards)):
        found, links = members(tree, shards, shard)
        where, kinds = tree.locate(shards[shard]), ["link or device"] * links
        images: dict[str, Member] = {}
        labels: dict[str, dict[str, Member]] = {}
        for member in found:
            known = not member.hidden
            if known and f".{member.ending}" in EXTENSIONS:
                if (other := images.setdefault(member.key, member)) is not member:
                    raise InputError(
                        f"shard {where!r} has two images of one sample, {other.name!r} and {member.name!r}: keep one"
                    )
            elif known and member.ending in KINDS:
                labels.setdefault(member.key, {})[member.ending] = member
            elif not member.name.rpartition("/")[2].startswith("._"):
                kinds.append("hidden" if not known else f".{member.ending}" if member.ending else "without an ending")
        kinds += ["label without an image"] * len(labels.keys() - images.keys())
        left_out.add(where, kinds)
        samples += [Sample(image, labels.get(key, {})) for key, image in images.items()]
    return samples


def _kind(part: Part, path: Path, label_column: str | None) -> str:
    """The ending of the members that hold the labels."""
    if not part.samples:
        raise InputError(f"the shards of {str(path)!r} hold no images ({', '.join(sorted(EXTENSIONS))}): check them")
    there = {kind for sample in part.samples for kind in sample.labels}
    kinds = ("json",) if label_column else KINDS
    kind = next((kind for kind in kinds if kind in there), None)
    if kind is None:
        raise InputError(
            f"no image in the shards of {str(path)!r} has a label beside it: pack KEY.{' or KEY.'.join(kinds)} "
            "beside KEY.jpg"
        )
    return kind


def _drop_unlabelled(part: Part, kind: str, where: str) -> list[str]:
    """Leaves out the images without a label, and says how many they are."""
    labelled = [sample for sample in part.samples if kind in sample.labels]
    lacking = len(part.samples) - len(labelled)
    part.samples[:] = labelled
    return [f"{lacking:,} {'image' if lacking == 1 else 'images'} in the {where} not taken: no .{kind}"] * (lacking > 0)


def _labels(tree: FolderTree, parts: dict[str, Part], kind: str, label_column: str | None) -> dict[str, Labelled]:
    """The labels of each part: numbers, or text where one is no number."""
    found: dict[str, list[str]] = {}
    for name, part in parts.items():
        source = Tars(tree, part.shards, [sample.labels[kind] for sample in part.samples])
        found[name] = [_label(source, key, kind, label_column) for key in range(len(source))]
    every = {label for labels in found.values() for label in labels}
    numbers = all(map(whole_number, every))
    if not numbers and any(re.fullmatch("-[0-9]+", label) for label in every):
        name, at = next((name, at) for name, of in found.items() for at, label in enumerate(of) if label[:1] == "-")
        member = parts[name].samples[at].labels[kind]
        raise InputError(
            f"{tree.locate(parts[name].shards[member.shard])}/{member.name} holds the label {found[name][at]}: "
            "number the classes from 0, and leave out images without one"
        )
    return {
        name: Labelled(str(tree.path), [int(label) if numbers else label for label in labels])
        for name, labels in found.items()
    }


def _label(source: Tars, key: int, kind: str, label_column: str | None) -> str:
    """The label in a member, as text."""
    where = source.locate(key)
    if source.size(key) > LONGEST:
        raise InputError(f"{where} has {source.size(key):,} bytes, too many for a label: pack it again")
    try:
        text = source.read(key).decode("utf-8-sig").strip()
        value = _of_json(json.loads(text), label_column, where) if kind == "json" else text
    except ValueError as error:
        raise InputError(f"{where} holds no label ({' '.join(str(error).split())}): write it in UTF-8") from error
    if not value:
        raise InputError(f"{where} holds no label: write one, or leave its image out")
    return value


def _of_json(found: object, label_column: str | None, where: str) -> str:
    """The label of a JSON object, or the one value that is there in place of one."""
    if isinstance(found, dict):
        keys = (label_column,) if label_column else KEYS
        key = next((key for key in keys if key in found), None)
        if key is None:
            raise InputError(f"{where} has no label among {listed(map(str, found))}: say which with --label-column")
        found = found[key]
    if isinstance(found, bool) or not isinstance(found, int | str):
        raise InputError(f"{where} has the label {json.dumps(found)[:50]}, but must have text or a whole number")
    return str(found).strip()


def _matches(data: str) -> bool:
    """A .tar file, or a folder that holds shards but no folders of classes: stray archives make no shards of photos."""
    path = expanded(data)
    if not path.is_dir():
        return path.is_file() and path.suffix.lower() == ".tar"
    folders = []
    for folder in path.glob("[!.]*/"):
        if split_of(folder.name) is None or any(True for _ in folder.glob("[!.]*/")):
            return False
        folders.append(folder)
    return any(FILE.fullmatch(file.name) for place in (path, *folders) for file in place.glob("*.tar*"))


SOURCE = Source("tar shards", matches=_matches, load=load, options=("label_column",))
