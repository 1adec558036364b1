"""Long-tailed image data: the built-in digits, folders, .zip, list and parquet files, and the field's benchmarks."""

import difflib
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from car_ext.datasets import cifar, digits, folder, list_file, parquet, tiny_imagenet
from car_ext.datasets.benchmarks import BENCHMARKS, check_size
from car_ext.datasets.cache import cached_bytes, decode_all
from car_ext.datasets.holdout import hold_out
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.longtail import PROFILES, SELECTIONS, imbalance
from car_ext.datasets.options import DataOptions
from car_ext.datasets.split import Images, LongTailedData, Split
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
    "Split",
    "hold_out",
    "load",
]

NAMES = ("digits", *BENCHMARKS)


def load(
    data: str | Path,
    image_size: int | None = None,
    imbalance_ratio: float | None = None,
    cache_bytes: int | None = None,
    splits: Collection[str] = ("train", "test"),
    options: DataOptions | None = None,
) -> LongTailedData:
    """Loads a data set.

    Args:
        data: "digits"; a benchmark, whose files lie in options.data_root: "cifar10", "cifar100" (see `cifar.load`),
            "tiny_imagenet" (`tiny_imagenet.load`), "imagenet_lt", "places_lt", "inaturalist2018" (`list_file.load`);
            or the path of an image folder or a .zip of one (`folder.load`), a list file .txt of images below
            options.data_root (`list_file.load`) or a folder of parquet files (`parquet.load`).
        image_size: stored height and width in pixels; None: 8 for the digits, 32 for CIFAR, and else the shorter
            side of the first training image up to 96, 224 for larger ones.
        imbalance_ratio: largest over smallest class count, cut by `longtail.imbalance`; None: 50 for the
            digits, and everything else as it is.
        cache_bytes: memory the decoded images may take; None is a quarter of what is free. A split that does
            not fit is decoded image by image, with the same pixels.
        splits: the splits worth decoding ahead; the others are listed only, enough for class_counts. Without
            "train", the data may have none, and its training split is then empty; a list file is then the test list.
        options: where files are and how the training split is cut; None is `DataOptions()`.

    Raises:
        InputError: unknown data, a bad image_size or imbalance_ratio, an option the data has no use for, a benchmark of
            another size than published, or unreadable or misplaced files.
    """
    if image_size is not None and not 1 <= image_size <= 4096:
        raise InputError(f"image_size is {image_size}: give pixels from 1 to 4096")
    name, options, needs_train = str(data), options or DataOptions(), "train" in splits
    loaded = _read(name, image_size, options, needs_train)
    if name in BENCHMARKS:
        check_size(name, loaded, splits)
    if imbalance_ratio is None and name == "digits":
        imbalance_ratio = digits.IMBALANCE_RATIO
    if needs_train:
        loaded = _cut(name, loaded, imbalance_ratio, options)
    budget = default_cache_bytes() if cache_bytes is None else cache_bytes
    for part in splits:
        split = getattr(loaded, part)
        if not isinstance(split.images, np.ndarray) and cached_bytes(split.images) <= budget:
            budget -= cached_bytes(split.images)
            array = decode_all(split.images, f"decoding {part}")
            loaded = replace(loaded, **{part: replace(split, images=array)})
    return loaded


def _read(name: str, image_size: int | None, options: DataOptions, needs_train: bool) -> LongTailedData:
    path = Path(name).expanduser()
    if name == "digits":
        options.check_used(name)
        return digits.load(image_size)
    if name in cifar.VERSIONS:
        options.check_used(name, "data_root", "download")
        return cifar.load(name, options.root(name), image_size, options.download)
    if name == "tiny_imagenet":
        options.check_used(name, "data_root")
        return tiny_imagenet.load(options.root(name), image_size)
    if name in list_file.NAMED:
        options.check_used(name, "data_root")
        root = options.root(name)
        train, test = (root / file for file in list_file.NAMED[name])
        return list_file.load(name, train if needs_train else None, test, root, image_size)
    if path.suffix.lower() == ".txt":
        options.check_used(name, "data_root", "test_list")
        if needs_train and options.test_list is None:
            raise InputError(f"data {name!r} is a list of training images: add --test-list, a list of the test images")
        test = Path(options.test_list or path).expanduser()
        return list_file.load(path.stem, path if needs_train else None, test, options.root(name), image_size)
    if path.is_dir() and parquet.holds_parquet(path):
        options.check_used(name, "label_column")
        return parquet.load(path, image_size, options.label_column, needs_train)
    if path.is_dir() or (path.is_file() and path.suffix.lower() == ".zip"):
        options.check_used(name)
        return folder.load(path, image_size, needs_train)
    close = difflib.get_close_matches(name, NAMES, n=1)
    fix = f"did you mean {close[0]!r}?" if close else f"check the path, or give {', '.join(NAMES)}"
    raise InputError(f"data {name!r} is no image folder, .zip or .txt file or built-in name: {fix}")


def _cut(name: str, data: LongTailedData, imbalance_ratio: float | None, options: DataOptions) -> LongTailedData:
    """The data with its training split cut to the profile."""
    selection = options.selection or ("seeded" if name in BENCHMARKS else "first")
    if imbalance_ratio is None and (options.profile, options.selection, options.selection_seed) != ("exp", None, 0):
        raise InputError("--profile, --selection and --selection-seed say how to cut: add --imbalance-ratio")
    if selection == "first" and options.selection_seed:
        raise InputError(f"--selection-seed is {options.selection_seed}, but only --selection seeded draws")
    if imbalance_ratio is None:
        return data
    kept = imbalance(
        data.train.targets, data.class_names, imbalance_ratio, options.profile, selection, options.selection_seed
    )
    return replace(data, train=data.train.take(kept))
