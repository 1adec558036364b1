"""ONNX with standard operators only: runs anywhere, and is the reference for the others."""

from pathlib import Path

from car_ext.export.calibration import Calibration
from car_ext.export.format import Format
from car_ext.runtimes.described import Described
from car_ext.runtimes.finished_run import FinishedRun


def save(run: FinishedRun, path: Path, _: Calibration) -> None:
    from car_ext.export.onnx_writer import save_float32

    save_float32(run, path)


def open_onnx(path: Path, device: str) -> Described:
    """An ONNX file of any precision in onnxruntime."""
    from car_ext.runtimes.onnx_file import OnnxClassifier

    return OnnxClassifier(path, ["CPUExecutionProvider"] if device == "cpu" else None)


# Kernels of two libraries round differently, by about 1e-6.
FORMAT = Format("fp32", "model.onnx", save, open_onnx, tolerance=1e-4)
