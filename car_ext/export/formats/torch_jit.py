"""TorchScript: a trace of the classifier, for any batch size; its description is an extra file of the archive.

PyTorch has deprecated TorchScript in favour of torch.export; it is still what C++ programs with an older LibTorch, and
PyTorch's mobile runtimes, load.
"""

import json
import warnings
from pathlib import Path

from car_ext.export.calibration import Calibration
from car_ext.export.format import Format
from car_ext.runtimes.described import FACTS_FILE, Described
from car_ext.runtimes.finished_run import FinishedRun


def save(run: FinishedRun, path: Path, _: Calibration) -> None:
    import torch

    with warnings.catch_warnings():
        # FutureWarning: the format is deprecated. TracerWarning: whether a branch on a shape was frozen is found out
        # by trying other batch sizes.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(run.classifier, torch.zeros(2, *run.image_shape, dtype=torch.uint8))
        torch.jit.save(traced, path, _extra_files={FACTS_FILE: json.dumps(run.facts)})


def open_trace(path: Path, device: str) -> Described:
    import torch

    from car_ext.runtimes.torch_file import TorchClassifier

    def load(path: Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the deprecation of the format
            return torch.jit.load(path, map_location=device, _extra_files=extra)

    return TorchClassifier(path, device, "TorchScript", load)


FORMAT = Format("torchscript", "model.pt", save, open_trace, tolerance=1e-4)
