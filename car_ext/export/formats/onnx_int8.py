"""ONNX in 8-bit integers, see `quantize.save_int8`."""

import tempfile
from pathlib import Path

from car_ext.export.calibration import Calibration
from car_ext.export.format import Format
from car_ext.export.formats import onnx
from car_ext.export.own_data import own_data
from car_ext.runtimes.finished_run import FinishedRun


def save(run: FinishedRun, path: Path, calibration: Calibration) -> None:
    from car_ext.export.quantize import save_int8

    images = own_data(run, calibration.data, calibration.data_root).train  # first, as the data may have moved
    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        float32 = path.with_name(onnx.FORMAT.file)  # there, if it is written in the same export
        if not float32.exists():
            float32 = Path(scratch, "float32.onnx")
            onnx.save(run, float32, calibration)
        save_int8(run, float32, path, images, calibration)


FORMAT = Format("int8", "model.int8.onnx", save, onnx.open_onnx, tolerance=None)
