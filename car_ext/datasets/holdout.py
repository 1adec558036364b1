"""Setting a part of the training images aside: to test on, to make choices by, or in place of the test images."""

from dataclasses import replace

import numpy as np

from car_ext.datasets.draw import drawn, drawn_groups, group_numbers
from car_ext.datasets.duplicates import shared
from car_ext.datasets.notes import tell, unmeasured
from car_ext.datasets.options import DataOptions
from car_ext.datasets.split import LongTailedData, Split
from car_ext.errors import InputError
from car_ext.text import nfc

TEST_SHARE = 0.2  # of each class, where nothing else is said


def with_test(data: LongTailedData, options: DataOptions, needed: bool = True) -> LongTailedData:
    """The data with a test split of their own where they come in one part.

    Args:
        data: as a source has it.
        options: test_share, split_seed and groups.
        needed: whether to refuse a share of 0.

    Raises:
        InputError: a share of data that have test images, no image to set aside, or as of `draw.group_numbers`.
    """
    if not data.whole:
        if options.test_share:
            raise InputError(
                f"--test-share is {options.test_share:g}, but data {data.name!r} have test images of their own: "
                "leave it out"
            )
        return data
    share = TEST_SHARE if options.test_share is None else options.test_share
    if not share:
        if needed:
            raise InputError(
                f"--test-share is 0 and data {data.name!r} have no test images, so nothing could be scored: leave it "
                "out, or hold a part of the training images out with --holdout 0.2"
            )
        return data
    kept, test = _divided(data, share, options)
    part = replace(data, train=kept, test=test)
    whole = "each class in whole groups" if options.groups else "each class"
    notes = [
        f"{data.name} has no test images of its own: {len(test):,} of {len(data.train):,} images, about "
        f"{100 * share:.3g} % of {whole}, are its test split (--test-share; --split-seed {options.split_seed})"
    ]
    return replace(part, notes=(*data.notes, *notes))


def with_val(data: LongTailedData, options: DataOptions) -> LongTailedData:
    """The data with a part of the training images as validation images, where a share of them is asked for.

    Args:
        data: with their test split, and cut.
        options: val_share, split_seed and groups.

    Raises:
        InputError: a share of data that have validation images, no image to set aside, or as of `draw.group_numbers`.
    """
    if not options.val_share:
        return data
    if data.val is not None:
        raise InputError(
            f"--val-share is {options.val_share:g}, but data {data.name!r} have validation images of their own: "
            "leave it out"
        )
    kept, val = _divided(data, options.val_share, options)
    return replace(data, train=kept, val=val)


def hold_out(data: LongTailedData, share: float, options: DataOptions | None = None) -> LongTailedData:
    """The same classes, with a part of the training images in place of the test images, which are left alone.

    How many of a class says `draw.drawn_counts`; which ones is a fixed random choice, the same on every machine.
    Classes without a held-out image, and held-out images that are among the others too, are told and stand in `notes`.

    Args:
        data: with training images.
        share: of each class, in (0, 1).
        options: split_seed and groups.

    Raises:
        InputError: a share outside (0, 1), no class with two images, or as of `draw.group_numbers`.
    """
    if not 0 < share < 1:
        raise InputError(f"share is {share}: give the part of the training images to hold out, such as 0.2")
    kept, held = _divided(data, share, options or DataOptions(), by_name=False)
    name = f"{data.name}, scored on {share:.3g} of its training images"
    part = replace(data, name=name, train=kept, test=held)
    notes = [*unmeasured(part.class_names, part.test.targets, name), *shared(part, part)]
    for note in notes:
        tell(note)
    return replace(part, notes=tuple(dict.fromkeys((*data.notes, *notes))))


def _divided(data: LongTailedData, share: float, options: DataOptions, by_name: bool = True) -> tuple[Split, Split]:
    """The training images that are kept, and those that are set aside.

    Where they are taken by name, the order in which files are listed does not matter.
    """
    split = data.train
    order = np.arange(len(split))
    if by_name and split.files:
        order = np.array(sorted(order, key=lambda at: nfc(split.files[at])), np.int64)
    if options.groups:
        numbers = group_numbers(split, options.groups)
        held = order[drawn_groups(split.targets[order], numbers[order], share, options.split_seed)]
    else:
        held = order[drawn(split.targets[order], data.num_classes, share, options.split_seed)]
    held = _once(split, np.sort(held))
    if not held.size:
        one = f"one group a class (--groups {options.groups})" if options.groups else "one training image a class"
        raise InputError(f"data {data.name!r} has {one}, so none can be held out")
    return split.take(np.setdiff1d(np.arange(len(split)), held)), split.take(held)


def _once(split: Split, held: np.ndarray) -> np.ndarray:
    """Those of some positions whose file is at no other: a list may name a file several times."""
    if len({*split.files}) == len(split.files):
        return held
    kept = {split.files[at] for at in np.setdiff1d(np.arange(len(split)), held)}
    return np.array([at for at in held if split.files[at] not in kept], np.int64)
