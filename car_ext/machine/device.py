"""What a job computes with: device, precision, threads, memory, and kernels that give the same bits twice."""

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


def _amp(name: str, device: torch.device) -> torch.dtype | None:
    if name == "auto":
        name = "none" if device.type == "cpu" else "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    if name != "none" and device.type == "cpu":
        raise InputError(f"--amp is {name}, but half precision is for CUDA devices only; use --amp none.")
    return {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}[name]
