"""Checkpoints that survive a kill at any moment: written aside, synced, renamed, older ones then removed.

`checkpoint-EPOCH/` is where a run goes on, `kept-EPOCH/` the classifier of its best epoch, where one is kept.
"""

import hashlib
import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from car_ext.errors import InputError

_TENSORS, _STATE = "tensors.safetensors", "state.json"
LATEST, KEPT = "checkpoint", "kept"


def save(directory: Path, epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write `directory/checkpoint-EPOCH/` and remove older ones; `state` is anything JSON can hold.

    Tensors may be on any device, shared or non-contiguous.

    Returns:
        The checkpoint's folder.
    """
    final = write(directory, LATEST, epoch, tensors, state)
    keep_only(directory, LATEST, epoch)
    return final


def write(directory: Path, kind: str, epoch: int, tensors: Mapping[str, Tensor], state: Mapping[str, Any]) -> Path:
    """Write `directory/KIND-EPOCH/` as `save` does; others stay, what was there under that name does not."""
    final = directory / f"{kind}-{epoch:06d}"
    if final.exists():
        shutil.rmtree(final)
    draft = final.with_suffix(".tmp")
    shutil.rmtree(draft, ignore_errors=True)
    draft.mkdir(parents=True)
    save_file(_apart(tensors), draft / _TENSORS)
    content = {"epoch": epoch, "tensors_sha256": _sha256(draft / _TENSORS), **state}
    (draft / _STATE).write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    for path in (draft / _TENSORS, draft / _STATE, draft):
        _sync(path)
    draft.rename(final)
    _sync(directory)
    return final


def _apart(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """On the CPU, contiguous, no two in one storage, which safetensors would refuse; copied only where they are not so.

    The average of a hundred thousand classes is 2 GB, which a copy would double.
    """
    places = {name: tensor.untyped_storage().data_ptr() for name, tensor in tensors.items()}
    several = Counter(places.values())
    return {
        name: tensor.detach().to("cpu", copy=several[places[name]] > 1).contiguous() for name, tensor in tensors.items()
    }


def keep_only(directory: Path, kind: str, epoch: int) -> None:
    """Remove every folder of this kind but that of `epoch`."""
    for old in directory.glob(f"{kind}-*"):
        if old.name != f"{kind}-{epoch:06d}":
            shutil.rmtree(old)


def load_latest(directory: Path, kind: str = LATEST) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
    """The newest checkpoint, or kept classifier.

    Returns:
        `(epoch, tensors on the CPU, state)`, or None if there is none.

    Raises:
        InputError: it is damaged.
    """
    found = _newest(directory, kind)
    if found is None:
        return None
    try:
        state = json.loads((found / _STATE).read_text(encoding="utf-8"))
        if state.pop("tensors_sha256") != _sha256(found / _TENSORS):
            raise ValueError(f"{_TENSORS} is not what was written")
        return state.pop("epoch"), load_file(found / _TENSORS), state
    except (OSError, ValueError, KeyError, SafetensorError) as error:
        if _newest(directory, kind) != found:  # a training has just replaced it
            return load_latest(directory, kind)
        raise InputError(
            f"the checkpoint {found} is damaged ({error}); bring back a copy, or remove it to start again."
        ) from error


def latest_state(directory: Path) -> dict[str, Any] | None:
    """What the newest checkpoint's JSON says, unchecked; None where there is none or `load_latest` would refuse it."""
    found = _newest(directory, LATEST)
    if found is None:
        return None
    try:
        return dict(json.loads((found / _STATE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None if _newest(directory, LATEST) == found else latest_state(directory)


def _newest(directory: Path, kind: str) -> Path | None:
    return max(directory.glob(f"{kind}-" + "[0-9]" * 6), default=None)


def pack(prefix: str, state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The tensors of a module under names that begin with `prefix.`."""
    return {f"{prefix}.{name}": tensor for name, tensor in state_dict.items()}


def unpack(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of `pack`."""
    start = prefix + "."
    return {name.removeprefix(start): tensor for name, tensor in tensors.items() if name.startswith(start)}


def pack_optimizer(optimizer: torch.optim.Optimizer) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
    """An optimizer as tensors named `optimizer.PARAMETER.KEY` and its parameter groups, which fit JSON."""
    state = optimizer.state_dict()
    tensors = {
        f"optimizer.{parameter}.{key}": tensor
        for parameter, entries in state["state"].items()
        for key, tensor in entries.items()
        if tensor is not None  # SGD notes an absent momentum buffer
    }
    return tensors, state["param_groups"]


def unpack_optimizer(
    optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor], groups: list[dict[str, Any]]
) -> None:
    """Load into `optimizer` what `pack_optimizer` took out of one like it.

    Each tensor gets the layout in memory of its parameter, which a file does not keep: fused updates go through both as
    they lie there, and on a CPU do not notice where they differ.
    """
    state: dict[int, dict[str, Tensor]] = {}
    for name, tensor in unpack("optimizer", tensors).items():
        parameter, _, key = name.partition(".")
        state.setdefault(int(parameter), {})[key] = tensor
    optimizer.load_state_dict({"state": state, "param_groups": groups})
    restored: Any = optimizer.state  # torch says that its keys are words
    for parameter, entries in restored.items():
        for key, value in entries.items():
            if value.shape == parameter.shape and value.stride() != parameter.stride():
                entries[key] = torch.empty_like(parameter, dtype=value.dtype, device=value.device).copy_(value)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
