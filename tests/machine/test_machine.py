import platform
import resource
from pathlib import Path

import numpy as np
import pytest
import torch

from car_ext.machine import device
from car_ext.machine.device import Machine
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


def test_tensors_of_nested_tuples_are_sent_and_the_rest_stays_as_it_is():
    machine, keys = Machine("cpu", "none"), np.arange(6).reshape(2, 3)
    machine.device = torch.device("meta")  # the only other one that is everywhere
    (images, same), nothing = machine._moved(((torch.zeros(2, 3), keys), None))
    assert images.device.type == "meta"
    assert same is keys
    assert nothing is None
    assert [*device._tensors(((images, keys), None))] == [images]
