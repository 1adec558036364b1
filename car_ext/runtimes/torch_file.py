"""A file that PyTorch loads, in PyTorch."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from car_ext.errors import InputError, first_line
from car_ext.runtimes.described import FACTS_FILE, Described, check_file, complete_facts

Loader = Callable[[Path, str, dict[str, str]], torch.nn.Module]  # of a path, a device, and extra files to be filled in


class TorchClassifier(Described):
    """A file of one of PyTorch's formats. Loading runs what the file says: trust its source.

    Args:
        path: the file.
        device: "auto", which is CUDA where there is one, or a device of PyTorch.
        kind: the format.
        load: how PyTorch loads it.

    Raises:
        InputError: no such file, not such a model, or one that was not exported by car_ext.
    """

    def __init__(self, path: str | Path, device: str, kind: str, load: Loader) -> None:
        check_file(path)
        found = "cuda" if torch.cuda.is_available() else "cpu"
        self.device = found if device == "auto" else device
        extra = {FACTS_FILE: ""}
        try:
            self.module = load(Path(path), self.device, extra)
        except Exception as error:  # a zip reader, a parser and a linker, each with exceptions of its own
            raise InputError(f"{str(path)!r} is not a {kind} model PyTorch can load: {first_line(error)}") from error
        with complete_facts(path):
            super().__init__(json.loads(extra[FACTS_FILE]), f"{kind} {self.device}", kind)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.module(torch.from_numpy(images).to(self.device)).cpu().numpy()
