"""Labelled images that a run has neither learnt from nor is judged by."""

from collections.abc import Iterator
from dataclasses import replace

import numpy as np

from car_ext import datasets
from car_ext.datasets.duplicates import common
from car_ext.datasets.notes import tell
from car_ext.datasets.reading import read_ahead
from car_ext.errors import InputError
from car_ext.export.own_data import own_data
from car_ext.machine.memory import available_bytes
from car_ext.runtimes.finished_run import FinishedRun

BATCH_SIZE = 64
BYTES_A_LOGIT = 28  # as float32, and what a fit makes of it: three times float64


def held_out(run: FinishedRun, source: str | None, data: str | None, data_root: str | None) -> datasets.Split:
    """The images that `source` names, labelled as the run does; the run's own validation images where it is None.

    A run with a share held out (`--holdout`) has made no use of its test images, so those held out will do.

    Args:
        run: the run.
        source: labelled images, as `datasets.load` takes them; of data with a test split, that.
        data, data_root: where the run's own data lie now.

    Raises:
        InputError: there are none, they have classes that the run does not know, or there are images of the run's
            training or test part among them.
    """
    if source is None:
        own = own_data(run, data, data_root)
        found = own.test if own.val is None and run.config.get("holdout") else own.val
        if found is None:
            raise InputError(
                f"the run's data, {own.name}, have no validation images; give others that are neither training nor "
                "test images with --held-out."
            )
        return found
    # Files, as those of the run are: decoded images could not be compared with them.
    given = datasets.load(
        source, run.stored_size, cache_bytes=0, splits=("test",), options=datasets.DataOptions(data_root=data_root)
    )
    if given.channels != run.channels:
        raise InputError(f"--held-out {source} has {given.channels} channel(s), but the model takes {run.channels}.")
    try:
        own = own_data(run, data, data_root, ("train", "test"), hold=False)
    except InputError as error:
        tell(f"whether images of --held-out {source} are training or test images of the run could not be seen: {error}")
    else:
        for part, split in (("training", own.train), ("test", own.test)):
            if shared := common(given.test.images, split.images):
                raise InputError(
                    f"{shared} of {len(given.test)} images of --held-out {source} are {part} images of the run; give "
                    "others, or none for the run's validation images."
                )
    labels = run.labels(given.class_names, f"--held-out {source}")
    return replace(given.test, targets=labels[given.test.targets])


def logits_of(run: FinishedRun, split: datasets.Split) -> tuple[np.ndarray, np.ndarray]:
    """Logits (N, K) and labels (N,) of every image.

    Raises:
        InputError: there is no image, or the free memory does not hold what is fitted on them.
    """
    needed, free = len(split) * len(run.class_names) * BYTES_A_LOGIT, available_bytes()
    if needed > free:
        raise InputError(
            f"what is fitted on the logits of {len(split)} held-out images over {len(run.class_names)} classes takes "
            f"{needed / 1e9:.0f} GB of memory, of which {free / 1e9:.0f} are free; give fewer images with --held-out."
        )
    parts = [*_passed(run, split)]
    if not parts:
        raise InputError("there is no held-out image.")
    logits, targets = zip(*parts, strict=True)
    return np.concatenate(logits), np.concatenate(targets)


def _passed(run: FinishedRun, split: datasets.Split) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, targets in read_ahead(split, run.image_size, BATCH_SIZE, threads=2):
        yield run(images), targets
