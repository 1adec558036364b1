"""A run as the two files that PyTorch itself loads."""

import json
import warnings
from pathlib import Path

import torch

from car_ext.runtimes.described import FACTS_FILE
from car_ext.runtimes.finished_run import FinishedRun


def save_torchscript(run: FinishedRun, path: Path) -> None:
    """A trace of the classifier, for any batch size; the description is the extra file ``car_ext.json``."""
    with warnings.catch_warnings():
        # FutureWarning: the format is deprecated, as the documentation says. TracerWarning: whether a branch on a
        # shape was frozen is found out by trying other batch sizes.
        warnings.simplefilter("ignore")
        traced = torch.jit.trace(run.classifier, _example(run))
        torch.jit.save(traced, path, _extra_files={FACTS_FILE: json.dumps(run.facts)})


def save_exported(run: FinishedRun, path: Path) -> None:
    """An ``ExportedProgram``, for any batch size; the description is the extra file ``car_ext.json``."""
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(run.classifier, (_example(run),), dynamic_shapes={"images": batch})
    torch.export.save(program, path, extra_files={FACTS_FILE: json.dumps(run.facts)})


def _example(run: FinishedRun) -> torch.Tensor:
    return torch.zeros(2, *run.image_shape, dtype=torch.uint8)
