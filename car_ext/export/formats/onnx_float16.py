"""ONNX with weights and arithmetic of half precision between float32 preprocessing and logits."""

from pathlib import Path

from car_ext.export.calibration import Calibration
from car_ext.export.format import Format
from car_ext.export.formats.onnx import open_onnx
from car_ext.runtimes.finished_run import FinishedRun


def save(run: FinishedRun, path: Path, _: Calibration) -> None:
    from car_ext.export.onnx_writer import save_float16

    save_float16(run, path)


# Half precision rounds by 2^-11, that is 5e-4, and some hundreds of roundings one after another stray by the square
# root of their number: about 1e-2.
FORMAT = Format("fp16", "model.fp16.onnx", save, open_onnx, tolerance=2e-2)
