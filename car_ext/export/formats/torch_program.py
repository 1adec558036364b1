"""A `torch.export.ExportedProgram`, for any batch size; its description is an extra file of the archive."""

import json
from pathlib import Path

from car_ext.export.calibration import Calibration
from car_ext.export.format import Format
from car_ext.runtimes.described import FACTS_FILE, Described
from car_ext.runtimes.finished_run import FinishedRun


def save(run: FinishedRun, path: Path, _: Calibration) -> None:
    import torch

    example = torch.zeros(2, *run.image_shape, dtype=torch.uint8)
    batch = {0: torch.export.Dim("batch", min=1)}
    program = torch.export.export(run.classifier, (example,), dynamic_shapes={"images": batch})
    torch.export.save(program, path, extra_files={FACTS_FILE: json.dumps(run.facts)})


def open_program(path: Path, device: str) -> Described:
    import torch
    from torch.export.passes import move_to_device_pass

    from car_ext.runtimes.torch_file import TorchClassifier

    def load(path: Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
        program = torch.export.load(path, extra_files=extra)
        return move_to_device_pass(program, device).module()

    return TorchClassifier(path, device, "torch.export", load)


FORMAT = Format("pt2", "model.pt2", save, open_program, tolerance=1e-4)
