"""A TorchScript or torch.export file in PyTorch."""

import json
import warnings
from pathlib import Path

import numpy as np
import torch
from torch.export.passes import move_to_device_pass

from car_ext.errors import InputError
from car_ext.runtimes.described import FACTS_FILE, Described, _check_file, _complete_facts, _first_line


class TorchClassifier(Described):
    """A TorchScript (.pt) or torch.export (.pt2) file in PyTorch. Loading runs what the file says: trust its source.

    Raises:
        InputError: no such file, not such a model, or one that was not exported by car_ext.
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        _check_file(path)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        loaders = {".pt": ("TorchScript", _load_torchscript), ".pt2": ("torch.export", _load_exported)}
        kind, load = loaders[Path(path).suffix]
        extra = {FACTS_FILE: ""}
        try:
            self.module = load(path, self.device, extra)
        except Exception as error:  # a zip reader, a parser and a linker, each with exceptions of its own
            raise InputError(f"{str(path)!r} is not a {kind} model PyTorch can load: {_first_line(error)}") from error
        with _complete_facts(path):
            super().__init__(json.loads(extra[FACTS_FILE]), f"{kind} {self.device}", kind)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.module(torch.from_numpy(images).to(self.device)).cpu().numpy()


def _load_torchscript(path: str | Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the deprecation of the format
        return torch.jit.load(path, map_location=device, _extra_files=extra)


def _load_exported(path: str | Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
    program = torch.export.load(path, extra_files=extra)
    return move_to_device_pass(program, device).module()
