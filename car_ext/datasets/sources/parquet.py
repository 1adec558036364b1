"""A folder of parquet files, as the Hugging Face hub stores image data sets."""

import json
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.sample import default_size
from car_ext.datasets.shards import Shards, opened, pyarrow
from car_ext.datasets.source import Source
from car_ext.datasets.split import LongTailedData, Split
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError

FILE = re.compile(r"(train|test|validation)(?:-(?:[0-9]+-of-([0-9]+))?.*)?\.parquet")


def holds_parquet(path: Path) -> bool:
    """Whether a folder, or one directly inside it, holds a parquet file named after a split."""
    return any(FILE.fullmatch(file.name) for files in ("*.parquet", "[!.]*/*.parquet") for file in path.glob(files))


def load(path: Path, image_size: int | None, label_column: str | None, needs_train: bool = True) -> LongTailedData:
    """Lists the images of parquet files without decoding them; nothing in the files is run or unpickled.

    Layout: `train-*.parquet` and `test-*.parquet`, or `validation-*` for want of `test-*`, at the root or in the only
    folder there that has such files. The image column holds image files as bytes, or as structs {bytes, path}, whose
    path is not followed. The label column holds whole numbers from 0 on, which the metadata of `datasets` may name, or
    text, whose sorted values are the classes. Where the metadata marks no such column, it is the one called "image" or
    "label", or the only one of a fitting type.

    Args:
        path: the folder.
        image_size: stored height and width in pixels; None is `sample.default_size`.
        label_column: the label column, where several could be.
        needs_train: False lets the training files be missing, as where a finished model is scored.

    Raises:
        InputError: pyarrow is missing, files are missing or damaged, another layout, no or several fitting columns, a
            label that is none, or a class without images in a split.
    """
    tree = FolderTree(path)
    by_split = _files(tree)
    files = {"train": by_split.get("train", []), "test": by_split.get("test") or by_split.get("validation", [])}
    if not files["test"] or (needs_train and not files["train"]):
        raise InputError(
            f"data {str(path)!r} has parquet files for {' and '.join(by_split)} only: "
            "it needs train-*.parquet, and test-*.parquet or validation-*.parquet"
        )
    with opened(tree, (files["train"] or files["test"])[0]) as parquet:
        image, label, names = _columns(parquet.schema_arrow, label_column, path)
    labels = {part: _read_labels(tree, files[part], image, label) for part in files}
    names = names or _names(labels["train"] or labels["test"])
    shards = {part: Shards(tree, files[part], image) for part in files}
    targets = {part: _targets(labels[part], names, shards[part]) for part in files}
    for part in files:
        counts = np.bincount(targets[part], minlength=len(names))
        if files[part] and (len(names) < 2 or not counts.all()):
            lacking = f"class {names[counts.argmin()]!r} has no image" if len(names) > 1 else "fewer than 2 classes are"
            raise InputError(f"{lacking} in the {part} files of {str(path)!r}: every class needs one in each split")
    if image_size is None:
        looked_at = shards["train" if files["train"] else "test"]
        image_size = default_size(looked_at, range(len(looked_at)))
    train, test = (
        Split(LazyImages(shards[part], range(len(shards[part])), image_size), targets[part]) for part in files
    )
    return LongTailedData(path.stem, names, train, test, image_size, channels=3)


def _files(tree: FolderTree) -> dict[str, list[str]]:
    """Split to its files, sorted."""
    folders, top = tree.list("")
    listed = {"": top} | {f"{folder}/": tree.list(folder)[1] for folder in folders}
    matched = {prefix: [*filter(None, map(FILE.fullmatch, files))] for prefix, files in listed.items()}
    found = {prefix: matches for prefix, matches in matched.items() if matches}
    if len(found) > 1:
        raise InputError(
            f"data {str(tree.path)!r} has parquet files in several folders ({', '.join(p or './' for p in found)}): "
            "give one of them"
        )
    ((prefix, matches),) = found.items()
    by_split: dict[str, list[str]] = {}
    for match in matches:
        by_split.setdefault(match[1], []).append(prefix + match[0])
    for match in matches:
        files = by_split[match[1]]
        if match[2] and len(files) != int(match[2]):
            raise InputError(
                f"{tree.locate(prefix + match[0])!r} is one of {int(match[2])} files, but {len(files)} are there: "
                "fetch the others"
            )
    return by_split


def _columns(schema: Any, label_column: str | None, path: Path) -> tuple[str, str, tuple[str, ...]]:
    """The image column, the label column and the names of the classes, () where there are none."""
    types = pyarrow().types

    def binary(kind: Any) -> bool:
        if types.is_struct(kind):
            return kind.get_field_index("bytes") >= 0 and binary(kind.field("bytes").type)
        return types.is_binary(kind) or types.is_large_binary(kind)

    def labelling(kind: Any) -> bool:
        kind = kind.value_type if types.is_dictionary(kind) else kind
        return types.is_integer(kind) or types.is_string(kind) or types.is_large_string(kind)

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
    label = label_column or pick("label", labelling, "ClassLabel", "say which with --label-column")
    if label not in schema.names or not labelling(schema.field(label).type):
        raise InputError(f"--label-column {label} is no column of text or whole numbers in {str(path)!r}")
    names = features.get(label, {}).get("names") if marked.get(label) == "ClassLabel" else None
    return image, label, tuple(map(str, names)) if isinstance(names, list) else ()


def _features(schema: Any) -> dict[str, Any]:
    """What the package `datasets` noted about each column; {} where it did not write the file."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}
    return features if isinstance(features, dict) else {}


def _read_labels(tree: FolderTree, files: Sequence[str], image: str, label: str) -> list[int | str | None]:
    """The label column of all files, which need both columns."""
    labels = []
    for file in files:
        with opened(tree, file) as parquet:
            for column in (image, label):
                if column not in parquet.schema_arrow.names:
                    raise InputError(f"parquet file {tree.locate(file)!r} has no column {column!r}, as others do")
            labels += parquet.read(columns=[label], use_threads=False).column(label).to_pylist()
    return labels


def _names(labels: Sequence[int | str | None]) -> tuple[str, ...]:
    """The classes of labels that nothing names: sorted text, or as many numbers from 0 as there are different ones."""
    distinct = sorted({label for label in labels if label is not None}, key=str)
    return tuple(label if isinstance(label, str) else str(number) for number, label in enumerate(distinct))


def _targets(labels: Sequence[int | str | None], names: tuple[str, ...], shards: Shards) -> np.ndarray:
    known: dict[str | None, int] = {name: number for number, name in enumerate(names)}
    targets = np.empty(len(labels), np.int64)
    for row, label in enumerate(labels):
        number = label if isinstance(label, int) else known.get(label)
        if number is None or not 0 <= number < len(names):
            raise InputError(
                f"{shards.locate(row)} has the label {label!r}, but the {len(names)} classes have the labels 0 to "
                f"{len(names) - 1} or their names"
            )
        targets[row] = number
    return targets


def _matches(data: str) -> bool:
    path = Path(data).expanduser()
    return path.is_dir() and holds_parquet(path)


SOURCE = Source(
    "parquet",
    matches=_matches,
    load=lambda request: load(request.path, request.image_size, request.options.label_column, request.needs_train),
    options=("label_column",),
)
