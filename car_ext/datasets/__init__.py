"""Long-tailed image data: the built-in digits, folders, .zip, list and parquet files, and the field's benchmarks."""

from collections.abc import Collection, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.datasets.benchmarks import BENCHMARKS, check_size
from car_ext.datasets.cache import hold
from car_ext.datasets.cache_folder import find_folder
from car_ext.datasets.duplicates import shared
from car_ext.datasets.fingerprint import fingerprint
from car_ext.datasets.holdout import hold_out, with_test, with_val
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.longtail import PROFILES, SELECTIONS, imbalance
from car_ext.datasets.notes import tell, unmeasured
from car_ext.datasets.options import DataOptions
from car_ext.datasets.sample import warn_of_flat
from car_ext.datasets.source import NAMES, SOURCES, Request, Source, find_source
from car_ext.datasets.spent import common_groups, without
from car_ext.datasets.split import Images, LongTailedData, Spent, Split
from car_ext.errors import InputError
from car_ext.machine.memory import default_cache_bytes

__all__ = [
    "BENCHMARKS",
    "NAMES",
    "PROFILES",
    "SELECTIONS",
    "DataOptions",
    "Images",
    "LazyImages",
    "LongTailedData",
    "Request",
    "Source",
    "Split",
    "find_source",
    "hold_out",
    "list_data",
    "load",
    "register",
]

register = SOURCES.register


def load(
    data: str | Path,
    image_size: int | None = None,
    imbalance_ratio: float | None = None,
    cache_bytes: int | None = None,
    splits: Collection[str] = ("train", "test"),
    options: DataOptions | None = None,
    trained: Collection[Mapping[str, Any] | None] = (),
) -> LongTailedData:
    """Loads a data set.

    Args:
        data: "digits"; a benchmark, whose files lie in options.data_root: "cifar10", "cifar100" (see `cifar.load`),
            "tiny_imagenet" (`tiny_imagenet.load`), "imagenet_lt", "places_lt", "inaturalist2018" (`list_file.load`);
            or the path of an image folder or a .zip of one (`folder.load`), a list file .txt or .csv of images below
            options.data_root (`list_file.load`) or a folder of parquet files (`parquet.load`); or what a source takes
            that was added with `register` or by an entry point of the group "car_ext.data".
        image_size: stored height and width in pixels; None: 8 for the digits, 32 for CIFAR, and else the median
            shorter side of the training images up to 96, 224 for larger ones (`sample.default_size`).
        imbalance_ratio: largest over smallest class count, cut by `longtail.imbalance`; None: 50 for the
            digits, and everything else as it is.
        cache_bytes: memory the decoded images may take; None is a quarter of what is free, and 0 decodes nothing ahead.
            Where decoding a split takes seconds, it is decoded once into a file of options.cache_dir (`cache.hold`),
            which counts for nothing here. A split that fits nowhere is decoded image by image, with the same pixels.
        splits: the splits worth decoding ahead; the others are listed only, enough for class_counts. Without
            "train", the data may have none, and its training split is then empty; a list file is then the test list,
            and data that come in one part are the test split. Without "test", the data may have none, and its test
            split is then empty. Validation images, where there are any, belong to "train".
        options: where files are and how the splits are made; None is `DataOptions()`.
        trained: what models that are to be scored note of their training images (`spent.described`); data that come in
            one part are scored without these.

    Returns:
        The data. Data that come in one part are given a test split (`holdout.with_test`). What a user should know of
        them, such as files that are not taken, classes without test images and test images that are training images
        too, is told once on stderr and stands in `notes`.

    Raises:
        InputError: unknown data, a bad image_size or imbalance_ratio, an option the data has no use for, a benchmark of
            another size than published, or unreadable or misplaced files.
    """
    loaded = list_data(data, image_size, imbalance_ratio, splits, options, trained)
    splits = [*splits, "val"] if loaded.val else splits
    folder = None if cache_bytes == 0 else find_folder((options or DataOptions()).cache_dir)
    decoded = _decoded(loaded, splits, default_cache_bytes() if cache_bytes is None else cache_bytes, folder)
    if "train" in splits:  # what is compared is the files, whether or not they are held in memory
        decoded = replace(decoded, fingerprint=fingerprint(loaded, splits))
    if {"train", "test"} <= {*splits}:
        notes = (*unmeasured(decoded.class_names, decoded.test.targets, decoded.name), *shared(loaded, decoded))
        decoded = replace(decoded, notes=(*decoded.notes, *notes))
    for note in decoded.notes:
        tell(note)
    return decoded


def list_data(
    data: str | Path,
    image_size: int | None = None,
    imbalance_ratio: float | None = None,
    splits: Collection[str] = ("train", "test"),
    options: DataOptions | None = None,
    trained: Collection[Mapping[str, Any] | None] = (),
) -> LongTailedData:
    """Lists a data set, cut and split as `load` does it, with the same arguments; none of its images is decoded.

    Raises:
        InputError: as `load`, but for images that cannot be read.
    """
    if image_size is not None and not 1 <= image_size <= 4096:
        raise InputError(f"image_size is {image_size}: give pixels from 1 to 4096")
    name, options, needs_train = str(data), options or DataOptions(), "train" in splits
    if not needs_train:
        options = replace(options, groups=options.groups or common_groups(trained))
    source = find_source(name)
    options.check_used(name, *source.options)
    listed = source.load(Request(name, image_size, options, needs_train, "test" in splits))
    if name in BENCHMARKS:
        check_size(name, listed, splits)
    if not needs_train:
        return without(listed, trained, options.groups)
    listed = with_test(listed, options, needed="test" in splits)
    spent = None
    if name not in BENCHMARKS:  # whose test images are their own
        held = () if listed.val is None else (listed.val.images,)
        spent = Spent((listed.train.images, *held), len(listed.test) if listed.whole else None, options.groups)
    ratio = source.imbalance_ratio if imbalance_ratio is None else imbalance_ratio
    listed = with_val(_cut(listed, source, ratio, options), options)
    return replace(listed, spent=spent, notes=(*listed.notes, *_of_val(listed)))


def _of_val(data: LongTailedData) -> list[str]:
    """A sentence on what validation images are for, where there are any."""
    if data.val is None:
        return []
    return [f"{len(data.val):,} validation images of {data.name} are for choices during training, not for its scores"]


def _decoded(data: LongTailedData, splits: Collection[str], budget: int, folder: Path | None) -> LongTailedData:
    """The data with each of the splits held in a file, or in memory where it fits into what the others leave of it."""
    for part in splits:
        split = getattr(data, part)
        if isinstance(split.images, np.ndarray):
            continue
        shape = (len(split), data.image_size, data.image_size, data.channels)
        held = hold(split.images, shape, budget, folder, data.name, part)
        if held is not None:
            budget -= held.bytes
            data = replace(data, **{part: replace(split, images=held.images)})
        if isinstance(split.images, LazyImages):
            warn_of_flat(split.images, *((held.images, held.flat) if held else ()))
    return data


def _cut(data: LongTailedData, source: Source, imbalance_ratio: float | None, options: DataOptions) -> LongTailedData:
    """The data with its training split cut to the profile."""
    selection = options.selection or source.selection
    if imbalance_ratio is None and (options.profile, options.selection, options.selection_seed) != ("exp", None, 0):
        raise InputError("--profile, --selection and --selection-seed say how to cut: add --imbalance-ratio")
    if selection == "first" and options.selection_seed:
        raise InputError(f"--selection-seed is {options.selection_seed}, but only --selection seeded draws")
    if imbalance_ratio is None:
        return data
    kept = imbalance(
        data.train.targets, data.class_names, imbalance_ratio, options.profile, selection, options.selection_seed
    )
    note = (
        f"{data.name} is cut from {len(data.train):,} to {len(kept):,} training images, "
        f"imbalance ratio {imbalance_ratio:g}"
    )
    notes = data.notes if imbalance_ratio == source.imbalance_ratio else (*data.notes, note)  # the source's own size
    return replace(data, train=data.train.take(kept), notes=notes)
