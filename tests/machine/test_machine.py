import contextlib
import platform
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from car_ext.machine import device
from car_ext.machine.device import Machine
from car_ext.machine.kernels import deterministic
from car_ext.machine.memory import keep_freed_memory

SIZE = 64 * 2**20


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def faults() -> int:
    """How often the system had to provide a page until now."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc's malloc has the switch")
def test_freed_memory_is_used_again_and_goes_back_at_the_end():
    with keep_freed_memory():
        # A tensor's small objects first take the end of the block that was just freed, and the next tensor needs
        # another place: until malloc has a few spare ones of their size, how many depends on the process's past.
        for _ in range(20):
            torch.ones(SIZE // 4)
        before = faults()
        for _ in range(20):
            torch.ones(SIZE // 4)
        assert faults() - before < SIZE / resource.getpagesize()  # not once all pages of a tensor
        kept = resident()
    assert resident() < kept - SIZE / 2


def test_settings_for_the_same_bits_come_and_go():
    def settings():
        return torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory

    before = settings()
    with deterministic():
        assert settings() == (True, False)
    assert settings() == before


class Queue:
    """Stands in for CUDA's streams: notes what is asked of them."""

    def __init__(self, *_: object) -> None:
        self.waited: list[int] = []

    def record_event(self) -> int:
        return len(moved)

    def wait_event(self, event: int) -> None:
        self.waited.append(event)


moved: list[torch.Tensor] = []


def test_a_batch_is_sent_while_the_one_before_is_computed_with(monkeypatch):
    machine, computing, kept = Machine("cpu", "none"), Queue(), []
    batches = [((torch.tensor(2 * n), torch.tensor(2 * n + 1)), None) for n in range(4)]
    assert list(machine.ahead(batches)) == batches
    monkeypatch.setattr(Machine, "on_cuda", True)
    monkeypatch.setattr(Machine, "_moved", lambda self, item: sent(item))
    monkeypatch.setattr(torch.cuda, "Stream", Queue)
    monkeypatch.setattr(torch.cuda, "stream", contextlib.nullcontext)
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: computing)
    monkeypatch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: kept.append((tensor, stream)))

    def sent(item):
        moved.append(item)
        return item

    for number, batch in enumerate(machine.ahead(iter(batches)), 1):
        assert batch is batches[number - 1]
        assert len(moved) == min(number + 1, 4)  # one more than is computed with
        assert computing.waited == list(range(1, number + 1))  # for its own, not for the one after it
        assert kept == [(tensor, computing) for images, _ in batches[:number] for tensor in images]
    assert number == 4
    assert list(machine.ahead([])) == []


def test_tensors_of_nested_tuples_are_sent_and_the_rest_stays_as_it_is():
    machine, keys = Machine("cpu", "none"), np.arange(6).reshape(2, 3)
    machine.device = torch.device("meta")  # the only other one that is everywhere
    (images, same), nothing = machine._moved(((torch.zeros(2, 3), keys), None))
    assert images.device.type == "meta"
    assert same is keys
    assert nothing is None
    assert [*device._tensors(((images, keys), None))] == [images]
