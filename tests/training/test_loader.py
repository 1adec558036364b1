"""What a worker fails with, the main process says in one sentence."""

import os
import signal

import numpy as np
import pytest
import torch

from car_ext.datasets import Split
from car_ext.datasets.mapped import MappedImages, write
from car_ext.errors import InputError
from car_ext.methods.samplers import build_sampler
from car_ext.training import loader


class Damaged:
    """Four images, of which the third cannot be read; another kind of damage is a function."""

    def __init__(self, fault, at) -> None:
        self.fault, self.at = fault, at

    def __len__(self) -> int:
        return 4

    def __getitem__(self, index: int) -> np.ndarray:
        if index == self.at:
            self.fault()
        return np.zeros((2, 2, 3), np.uint8)


def unreadable():
    raise InputError("image 'c.jpg' cannot be decoded (truncated): replace or remove it")


def no_room():
    """In the worker alone."""

    def full(*_):
        raise RuntimeError("unable to allocate shared memory(shm) for file </t>: No space left on device (28)\nat c10")

    torch.Tensor.share_memory_ = full
    torch.UntypedStorage._share_fd_cpu_ = full  # where the worker's queue would meet it, in a thread of its own


def killed():
    os.kill(os.getpid(), signal.SIGKILL)


def defect():
    raise RuntimeError("DataLoader has a defect")


def batches(fault, workers, at=2):
    split = Split(Damaged(fault, at), np.zeros(4, np.int64))
    return loader.ordered_loader(split, 2, 1, workers, pin_memory=False)


def test_a_worker_says_what_the_main_process_says():
    said = []
    for workers in (0, 1):
        with pytest.raises(InputError) as caught:
            list(batches(unreadable, workers))
        said.append(str(caught.value))
    assert said[0] == said[1] == "image 'c.jpg' cannot be decoded (truncated): replace or remove it"


def test_too_little_shared_memory_is_a_sentence_and_no_hang():
    with pytest.raises(InputError, match=r"/dev/shm \(unable .* device \(28\)\); use --workers 0") as caught:
        list(batches(no_room, 1, at=0))  # no earlier batch is on its way
    assert "\n" not in str(caught.value)


# torch tells of a death by a signal, which may come while its own loader is being deleted.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_killed_worker_is_a_sentence():
    with pytest.raises(InputError, match=r"a worker .* has died .*--workers 0"), loader.alive_workers():
        list(batches(killed, 1, at=0))  # before it hands anything over


def test_other_errors_keep_their_traceback():
    with pytest.raises(RuntimeError, match="defect") as caught, loader.alive_workers():
        list(batches(defect, 1))
    assert not isinstance(caught.value, InputError)


@pytest.mark.parametrize("workers", [0, 2])
def test_decoded_images_of_a_file_make_the_batches_that_those_in_memory_make(workers, tmp_path):
    pixels = np.random.default_rng(0).integers(0, 256, (37, 12, 12, 3), np.uint8)
    write(tmp_path / "decoded.npy", pixels.shape, np.split(pixels, [20]), {})
    splits = [Split(images, np.arange(37) % 3) for images in (pixels, MappedImages(tmp_path / "decoded.npy"))]
    splits = [split.take(np.arange(36, 0, -1)) for split in splits]
    samplers = [build_sampler("instance", split.targets, 5, 1) for split in splits]
    trains = [
        loader.train_loader(split, sampler, workers, pin_memory=False)
        for split, sampler in zip(splits, samplers, strict=True)
    ]
    evaluations = [loader.ordered_loader(split, 8, 5, workers, False) for split in splits]
    epochs = ([loader.begin_epoch(train, epoch, 2) for train in trains] for epoch in (1, 2))
    for held, mapped in (*epochs, map(iter, evaluations)):
        for batch, other in zip(held, mapped, strict=True):
            assert len(batch) == len(other)
            assert all(map(np.array_equal, batch, other))
