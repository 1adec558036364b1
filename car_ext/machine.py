"""What a job computes with: device, precision, threads, memory, and kernels that give the same bits twice."""

import contextlib
import ctypes
import os
import platform
from collections.abc import Iterator

import torch
from torch import Tensor

from car_ext.errors import InputError


class Machine:
    """The device of a job and the precision it computes in.

    Attributes:
        device: where the network is.
        amp: dtype of half precision, None without.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        amp: "auto", "none", "bf16" or "fp16".

    Raises:
        InputError: no such device here, or half precision on a CPU.
    """

    def __init__(self, device: str, amp: str) -> None:
        self.device = find_device(device)
        self.amp = _amp(amp, self.device)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)

    def to_device(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)


def find_device(name: str) -> torch.device:
    """The device that ``name`` means, as of :class:`Machine`; raises :class:`InputError` if it is not here."""
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise InputError(f"--device is {name!r}, but must be auto, cpu, cuda or cuda:N.")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise InputError(f"--device is {name}, but {torch.cuda.device_count()} GPUs are visible; use auto.")
    return device


def _amp(name: str, device: torch.device) -> torch.dtype | None:
    if name == "auto":
        name = "none" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    if name != "none" and device.type == "cpu":
        raise InputError(f"--amp is {name}, but half precision is for CUDA devices only; use --amp none.")
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]


@contextlib.contextmanager
def threads(count: int) -> Iterator[None]:
    """So many CPU threads; as many as before after it."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


# Options of mallopt(3) by their numbers in malloc.h: value while memory is kept, value after it. The latter is where
# glibc's own adaptation ends, once a block of 32 MB was freed; its starting point cannot be had back.
_TRIM_THRESHOLD, _MMAP_THRESHOLD, _MMAP_MAX = -1, -3, -4
_MALLOC = {_TRIM_THRESHOLD: (-1, 64 * 2**20), _MMAP_THRESHOLD: (32 * 2**20, 32 * 2**20), _MMAP_MAX: (0, 65536)}


@contextlib.contextmanager
def keep_freed_memory() -> Iterator[None]:
    """Memory that tensors free stays with the process, for the next tensors; it goes back to the system after it.

    glibc returns large blocks at once, and the next step pays for every page anew. Measured on two cores, batch 128: a
    ResNet-32 at 32 pixels trains up to a tenth faster with the memory kept, a ResNet-18 at 64 pixels, whose tensors
    have more than 32 MB, 1.7 times as fast; the peak grows by up to 40 %. Only glibc has the switch; elsewhere this
    does nothing.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    libc = ctypes.CDLL(None)
    for option, (kept, _) in _MALLOC.items():
        libc.mallopt(option, kept)
    try:
        yield
    finally:
        for option, (_, after) in _MALLOC.items():
            libc.mallopt(option, after)
        libc.malloc_trim(0)


@contextlib.contextmanager
def deterministic() -> Iterator[None]:
    """The same bits twice, as far as CUDA has deterministic kernels; the old settings come back after."""
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    cudnn = torch.backends.cudnn
    enabled = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    before = cudnn.deterministic, cudnn.benchmark
    torch.use_deterministic_algorithms(True, warn_only=True)
    cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(enabled, warn_only=warn_only)
        cudnn.deterministic, cudnn.benchmark = before
