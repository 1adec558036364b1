"""What a job computes with: device, precision, threads, memory, and kernels that give the same bits twice."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from car_ext.errors import InputError
from car_ext.machine.processes import ALONE, Processes, local_device

PRECISIONS = {"none": None, "bf16": torch.bfloat16, "fp16": torch.float16}
NAMES = {None: "float32", torch.bfloat16: "bf16", torch.float16: "fp16"}


class Machine:
    """The device of a job and the precision it computes in.

    Attributes:
        device: where the network is.
        amp: dtype of half precision, None without.
        processes: the job's, of which each has a device.
        said: the precision and why, for people.

    Args:
        device: "auto", "cpu", "cuda" or "cuda:N".
        amp: "auto", "none", "bf16" or "fp16"; on a CPU auto is none until `decide`.
        processes: see above.
        begun: the precision that the job began in, where it is resumed: it goes on in it, whatever auto is here.

    Raises:
        InputError: no such device here, or a precision that it does not compute in.
    """

    def __init__(self, device: str, amp: str, processes: Processes = ALONE, begun: str | None = None) -> None:
        self.processes = processes
        self.device = find_device(local_device(device, processes.size))
        self.amp = _amp(begun or amp, self.device, "--amp is" if begun in (None, amp) else "this --out began in")
        self._open = amp == "auto" and begun is None
        self.said = NAMES[self.amp]
        if amp == "auto":
            self.said += ", in which the run began" if begun else " (auto)"

    @property
    def precision(self) -> str:
        """`amp` as a word of `--amp`."""
        return next(word for word, dtype in PRECISIONS.items() if dtype is self.amp)

    def decide(self, against: str | None) -> None:
        """On a CPU, what auto means for a network: bf16 where the CPU is faster in it and nothing is said `against`.

        The CPU and the network alone decide, no clock: the same job has the same bits each time. Of several processes
        the first one's CPU decides for all.

        Raises:
            InputError: this one cannot compute in what the first one's can.
        """
        if not self._open or self.device.type != "cpu":
            return
        against = self.processes.of_first(lambda: against if cpu_gains_by_bf16() else "this CPU is not faster in bf16")
        self.amp = _amp("none" if against else "bf16", self.device, "--amp auto is")
        self.said = f"float32 (auto: {against})" if against else "bf16 (auto: this CPU is faster in it)"

    @property
    def on_cuda(self) -> bool:
        return self.device.type == "cuda"

    def autocast(self) -> torch.autocast:
        return torch.autocast(self.device.type, self.amp, enabled=self.amp is not None)

    def to_device(self, *tensors: Tensor) -> tuple[Tensor, ...]:
        return tuple(tensor.to(self.device, non_blocking=True) for tensor in tensors)

    def ahead(self, items: Iterable[Any]) -> Iterator[Any]:
        """The items, nested tuples of tensors and of what stays here; on CUDA the tensors are on the device, each sent
        while the item before is computed with, on a stream of its own."""
        if not self.on_cuda:
            yield from items
            return
        stream, sent = torch.cuda.Stream(self.device), None
        for item in items:
            with torch.cuda.stream(stream):
                following = self._moved(item)
            if sent is not None:
                yield self._arrived(sent[0], stream, sent[1])
            sent = following, stream.record_event()
        if sent is not None:
            yield self._arrived(sent[0], stream, sent[1])

    def _moved(self, item: Any) -> Any:
        if isinstance(item, Tensor):
            return item.to(self.device, non_blocking=True)
        return tuple(map(self._moved, item)) if isinstance(item, tuple) else item

    def _arrived(self, item: Any, stream: Any, event: Any) -> Any:
        """The item for the stream that computes, which waits for it; its memory is not given away before that one has
        used it."""
        current = torch.cuda.current_stream(self.device)
        current.wait_event(event)
        for tensor in _tensors(item):
            tensor.record_stream(current)
        return item


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


def cpu_gains_by_bf16() -> bool:
    """Whether it is faster in them than in float32: with AMX, or with AMD's AVX512-BF16.

    Intel's AVX512-BF16 alone is not: on a Xeon of the fifth generation without its AMX, as in some virtual machines, a
    matrix product takes 1.7 times as long as in float32, and a training step of ResNets, an EfficientNet and a ViT at 8
    to 224 pixels 1.1 to 2.1 times (torch 2.14, one thread, medians of steps in turns).
    """
    return torch.cpu._is_amx_tile_supported() or (torch.cpu._is_avx512_bf16_supported() and _vendor() == "AuthenticAMD")


def _vendor() -> str | None:
    """Who made this CPU, as it says itself; None where the system does not tell."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("vendor_id")), None)


def _tensors(item: Any) -> Iterator[Tensor]:
    if isinstance(item, Tensor):
        yield item
    elif isinstance(item, tuple):
        for part in item:
            yield from _tensors(part)


def _amp(name: str, device: torch.device, where: str) -> torch.dtype | None:
    on_cpu = device.type == "cpu"
    if name == "auto":
        name = "none" if on_cpu else "bf16" if torch.cuda.is_bf16_supported(False) else "fp16"
    fix = "use --amp none" if where.startswith("--amp") else "resume it where that can be had, or use a new --out"
    if on_cpu and name == "fp16":
        raise InputError(f"{where} fp16, which is for CUDA devices only; {fix}.")
    if on_cpu and name == "bf16" and not cpu_has_bf16():
        raise InputError(f"{where} bf16, but this CPU has no AVX512-BF16 or AMX to compute it with; {fix}.")
    return PRECISIONS[name]
