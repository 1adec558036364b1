"""A folder of parquet files, as the Hugging Face hub stores image data sets."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from car_ext.datasets.labels import Classes, Labelled, check_counts, check_kinds, distinct, known_targets
from car_ext.datasets.layout import WORDS, Arrangement, arranged, by_split, split_of
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.notes import LeftOut
from car_ext.datasets.options import expanded
from car_ext.datasets.sample import default_size
from car_ext.datasets.shards import Shards, opened, pyarrow
from car_ext.datasets.source import Request, Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError

FILE = re.compile(rf"({'|'.join(WORDS)})(?:-(?:[0-9]+-of-([0-9]+))?.*)?\.parquet", re.IGNORECASE)
NUMBERED = re.compile(r"[0-9]+\.parquet", re.IGNORECASE)  # in a folder called like a split: train/0000.parquet
UNLABELLED = {None, -1}  # -1 by the convention of the hub


def load(request: Request) -> LongTailedData:
    """Lists the images of parquet files without decoding them; nothing in the files is run or unpickled.

    Layout: `train-*.parquet`, `test-*.parquet` and `validation-*.parquet`, or `train/0000.parquet` and so on, at the
    root or in the only folder there that has such files; splits may be called as of `layout.WORDS`. Validation files
    stand for test files that are missing or have no labels (-1); training files alone come in one part. The image
    column holds image files as bytes, or as structs {bytes, path}, whose path is not followed. The label column holds
    whole numbers from 0 on, which the metadata of `datasets` may name, or text, whose sorted values are the classes.
    Labels mean what their own file says, and are brought to the classes of the training files by name. Where the
    metadata marks no such column, it is the one called "image" or "label", or the only one of a fitting type. A class
    may lack test images. An image is called by its file and its row there.

    Raises:
        InputError: pyarrow is missing, files are missing or damaged, another layout, no or several fitting columns, a
            label that is none, text in one file and numbers in another, or a class without training images.
    """
    path, tree = request.path, FolderTree(request.path)
    files, notes = _files(tree)
    if request.needs_train and "train" not in files:
        raise InputError(
            f"data {str(path)!r} has parquet files for {' and '.join(files)} only: it needs train-*.parquet too"
        )
    with opened(tree, next(iter(files.values()))[0]) as parquet:
        columns = _columns(parquet.schema_arrow, request.options.label_column, path)
    parts, labelled = _parts(tree, files, columns, request, notes)
    taken = {split: labelled[part] if part else [] for split, part in parts.splits.items()}
    notes += check_kinds([file for split in ("train", "val", "test") for file in taken[split]])
    training = bool(taken["train"])
    classes = Classes(taken["train"] or taken["test"], training)
    shards = {split: Shards(tree, [file.path for file in part], columns[0]) for split, part in taken.items()}
    targets = {split: known_targets(part, classes, shards[split].locate) for split, part in taken.items()}
    looked_at = "train" if training else "test"
    check_counts(targets[looked_at], training, classes, f"the {looked_at} files of {str(path)!r}")
    image_size = request.image_size or default_size(shards[looked_at], range(len(shards[looked_at])))

    def split(name: str) -> Split:
        rows = tuple(f"{file.path}:{row}" for file in taken[name] for row in range(len(file.labels)))
        return Split(LazyImages(shards[name], range(len(rows)), image_size), targets[name], rows)

    return LongTailedData(
        path.stem,
        classes.names,
        split("train"),
        split("test"),
        image_size,
        channels=3,
        notes=tuple(notes),
        val=split("val") if taken["val"] else None,
        whole=parts.whole,
    )


def holds_parquet(path: Path) -> bool:
    """Whether a folder, or one directly inside it, holds parquet files named after splits or in folders that are."""
    inside = [*path.glob("[!.]*/")]
    files = (file for folder in (path, *inside) for file in folder.glob("*.parquet"))
    return any(FILE.fullmatch(file.name) for file in files) or any(map(_numbered, (path, *inside)))


def _numbered(folder: Path) -> bool:
    """Whether a folder holds one called like a split that holds parquet files with numbers for names."""
    splits = (split for split in folder.glob("*") if split_of(split.name) and split.is_dir())
    return any(NUMBERED.fullmatch(file.name) for split in splits for file in split.glob("*.parquet"))


def _files(tree: FolderTree) -> tuple[dict[str, list[str]], list[str]]:
    """Split to its files, sorted, and notes on other parquet files beside them."""
    folders = [name for name in tree.list("").folders if not split_of(name)]
    listed = {prefix: _files_in(tree, prefix) for prefix in ("", *(f"{name}/" for name in folders))}
    found = {prefix: files for prefix, (files, _) in listed.items() if files}
    if len(found) > 1:
        raise InputError(
            f"data {str(tree.path)!r} has parquet files in several folders ({', '.join(p or './' for p in found)}): "
            "give one of them"
        )
    ((prefix, files),) = found.items()
    for of_split in files.values():
        for file in of_split:
            match = FILE.fullmatch(file.rpartition("/")[2])
            if match and match[2] and len(of_split) != int(match[2]):
                raise InputError(
                    f"{tree.locate(file)!r} is one of {int(match[2])} files, but {len(of_split)} are there: "
                    "fetch the others"
                )
    left_out = LeftOut()
    left_out.add(tree.locate(prefix).rstrip("/"), [".parquet of no split"] * listed[prefix][1])
    return files, left_out.notes


def _files_in(tree: FolderTree, prefix: str) -> tuple[dict[str, list[str]], int]:
    """Split to its files, sorted, in one folder, and how many other parquet files there are."""
    listing, others = tree.list(prefix.rstrip("/")), 0
    files: dict[str, list[str]] = {}
    for file in listing.files:
        if match := FILE.fullmatch(file):
            files.setdefault(WORDS[match[1].lower()], []).append(prefix + file)
        elif file.lower().endswith(".parquet"):
            others += 1
    for split, folder in by_split(listing.folders, f"data {tree.locate(prefix)!r}").items():
        inside = tree.list(f"{prefix}{folder}").files
        files.setdefault(split, []).extend(
            f"{prefix}{folder}/{file}" for file in inside if NUMBERED.fullmatch(file) or FILE.fullmatch(file)
        )
    return {split: files[split] for split in ("train", "test", "val") if files.get(split)}, others


def _columns(schema: Any, label_column: str | None, path: Path) -> tuple[str, str]:
    """The image column and the label column."""
    types = pyarrow().types

    def binary(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and binary(kind.field("bytes").type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    features = _features(schema)
    marked = {name: feature.get("_type") for name, feature in features.items() if isinstance(feature, dict)}

    def pick(usual: str, fits: Callable[[Any], bool], mark: str, fix: str) -> str:
        fitting = [field.name for field in schema if fits(field.type)]
        names = [name for name in fitting if marked.get(name) == mark] or fitting
        if usual in names or len(names) == 1:
            return usual if usual in names else names[0]
        several = f"could be any of {', '.join(names)}" if names else f"is none of {', '.join(schema.names)}"
        raise InputError(f"the {usual} column of {str(path)!r} {several}: {fix}")

    image = pick("image", binary, "Image", "keep one column of image files")
    label = label_column or pick("label", _labelling, "ClassLabel", "say which with --label-column")
    if label not in schema.names or not _labelling(schema.field(label).type):
        raise InputError(f"--label-column {label} is no column of text or whole numbers in {str(path)!r}")
    return image, label


def _labelling(kind: Any) -> bool:
    """Whether a column of a type can hold labels: text or whole numbers."""
    types = pyarrow().types
    kind = kind.value_type if types.is_dictionary(kind) else kind
    return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)


def _named(schema: Any, label: str) -> tuple[str, ...]:
    """What a file says that the numbers of its label column mean, () where it does not."""
    feature = _features(schema).get(label)
    names = feature.get("names") if isinstance(feature, dict) and feature.get("_type") == "ClassLabel" else None
    return distinct([*map(str, names)]) if isinstance(names, list) else ()


def _features(schema: Any) -> dict[str, Any]:
    """What the package `datasets` noted about each column; {} where it did not write the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _read_labels(tree: FolderTree, files: Sequence[str], image: str, label: str) -> list[Labelled]:
    """The label columns of files, which need both columns, and what each says of it."""
    labelled = []
    for file in files:
        with opened(tree, file) as parquet:
            schema = parquet.schema_arrow
            for column in (image, label):
                if column not in schema.names:
                    raise InputError(f"parquet file {tree.locate(file)!r} has no column {column!r}, as others do")
            if not _labelling(kind := schema.field(label).type):
                raise InputError(
                    f"column {label!r} of parquet file {tree.locate(file)!r} is of type {kind}: "
                    "write whole numbers or text, as in the other files"
                )
            labels = parquet.read(columns=[label], use_threads=False).column(label).to_pylist()
            labelled.append(Labelled(file, labels, _named(schema, label)))
    return labelled


def _parts(
    tree: FolderTree, files: dict[str, list[str]], columns: tuple[str, str], request: Request, notes: list[str]
) -> tuple[Arrangement, dict[str, list[Labelled]]]:
    """Which part each split is, and the labels of those parts; test and validation files without labels are none."""
    labelled: dict[str, list[Labelled]] = {}
    there = dict(files)
    while True:
        parts = arranged(there, request.needs_train, request.needs_test)
        needed = {part: files[part] for part in parts.splits.values() if part}
        labelled |= {part: _read_labels(tree, needed[part], *columns) for part in needed if part not in labelled}
        unlabelled = [part for part in ("test", "val") if part in needed and _are_unlabelled(labelled[part])]
        if not unlabelled:
            break
        for part in unlabelled:
            images = sum(len(file.labels) for file in labelled[part])
            notes.append(f"{images:,} {part} images of {tree.path} not taken: they have no labels")
            del there[part]
        if request.needs_test and not there.keys() - {"train"}:
            held_out = " and ".join(part for part in files if part != "train")
            raise InputError(
                f"the labels of the {held_out} files of {str(tree.path)!r} are all missing or -1: "
                "add validation-*.parquet with labels"
            )
    if parts.test == "val":
        notes.append(f"{tree.path} has no test files with labels, so the validation files are the test split")
    return parts, labelled


def _are_unlabelled(files: Sequence[Labelled]) -> bool:
    return all(UNLABELLED.issuperset(file.labels) for file in files)


def _matches(data: str) -> bool:
    path = expanded(data)
    return path.is_dir() and holds_parquet(path)


SOURCE = Source("parquet", matches=_matches, load=load, options=("label_column",))
