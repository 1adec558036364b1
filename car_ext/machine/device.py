"""What a job computes with: device, precision, threads, memory, and kernels that give the same bits twice."""

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.machine.processes import ALONE, Processes, local_device


class Machine:
    """The device of a job and the precision it computes in.

    Attributes:
        device: where the network is.
        amp: dtype of half precision, None without.
        processes: the job's, of which each has a device.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        amp: "auto", "none", "bf16" or "fp16".
        processes: see above.

    Raises:
        InputError: no such device here, or a precision that it does not compute in.
    """

    def __init__(self, device: str, amp: str, processes: Processes = ALONE) -> None:
        self.processes = processes
        self.device = find_device(local_device(device, processes.size))
        self.amp = _amp(amp, self.device)

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)

    def to_device(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)


def find_device(name: str) -> torch.device:
    """The device that `name` means, as of `Machine`.

    Raises:
        InputError: it is not here.
    """
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


def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself, with AVX512-BF16 or AMX; others are slower with it."""
    return torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()


def _amp(name: str, device: torch.device) -> torch.dtype | None:
    on_cpu = device.type == "cpu"
    if name == "auto":
        name = "none" if on_cpu else "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    if on_cpu and name == "fp16":
        raise InputError("--amp is fp16, which is for CUDA devices only; use --amp none.")
    if on_cpu and name == "bf16" and not cpu_has_bf16():
        raise InputError("--amp is bf16, but this CPU has no AVX512-BF16 or AMX to compute it with; use --amp none.")
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
