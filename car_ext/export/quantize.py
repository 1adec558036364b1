"""An ONNX model in 8-bit integers, the ranges of its activations taken from training images."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript import ir

from car_ext import datasets
from car_ext.datasets.reading import centres
from car_ext.errors import InputError
from car_ext.export.calibration import Calibration
from car_ext.export.onnx_writer import save_described
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.runtimes.onnx_file import OnnxClassifier

BATCH_SIZE = 16
# Layers with weights, and those that pass 8 bits on as they are. Sums stay float32: a few features of a transformer's
# residual stream are so large that one scale for all would erase the others.
QUANTIZED = ["Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Flatten"]
OPTIONS = {
    "MatMulConstBOnly": True,  # attention multiplies activations by activations
    # One step of 8 bits over the logits of all classes would make ties, which the class with the lower label wins.
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
}


def save_int8(run: FinishedRun, float32: Path, path: Path, images: datasets.Split, calibration: Calibration) -> None:
    """Quantize an exported float32 file statically: QDQ, a scale for each output channel of a weight.

    Weights use 7 of the 8 bits: sums of two products of full range overflow, silently, in x86 CPUs without VNNI. The
    layer that gives the logits has float32 output. The metadata get `quantization`: the calibration, and on its
    images the fraction with the same predicted class as in float32, over all and in the class where it is lowest.

    Args:
        run: what the float32 file was exported from.
        float32: that file.
        path: the file to write.
        images: of training, labelled.
        calibration: which of them to take.

    Raises:
        InputError: an image that cannot be read, or logits that are not finite.
    """
    chosen = calibration.chosen(images.targets)
    starts = range(0, len(chosen), BATCH_SIZE)

    def batches() -> Iterator[np.ndarray]:
        return (centres(images.images, chosen[start : start + BATCH_SIZE], run.image_size) for start in starts)

    with tempfile.TemporaryDirectory(dir=path.parent) as scratch:
        prepared, quantized = Path(scratch, "prepared.onnx"), Path(scratch, "quantized.onnx")
        root = logging.getLogger()
        level = root.level
        root.setLevel(logging.ERROR)  # onnxruntime's quantizer logs advice there that was taken already
        try:
            quant_pre_process(
                float32,
                prepared,
                skip_symbolic_shape=True,  # onnx infers what there is, and older versions of the other cannot
                save_as_external_data=True,
                all_tensors_to_one_file=True,
                external_data_location="prepared.data",
            )
            quantize_static(
                prepared,
                quantized,
                _Reader(batches()),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=QUANTIZED,
                per_channel=True,
                reduce_range=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                use_external_data_format=True,
                extra_options=OPTIONS,
            )
        finally:
            root.setLevel(level)
        model = ir.external_data.load_to_model(ir.load(quantized))
        save_described(model, path, run.facts)
        exact, coarse = (OnnxClassifier(file, ["CPUExecutionProvider"]) for file in (float32, path))
        same = np.zeros(len(chosen), bool)
        for start, batch in zip(starts, batches(), strict=True):
            logits = coarse(batch)
            if not np.isfinite(logits).all():
                raise InputError("the int8 model gives logits that are not finite; use another format.")
            same[start : start + len(batch)] = logits.argmax(axis=1) == exact(batch).argmax(axis=1)
        labels = images.targets[chosen]
        quantization = {
            "calibration": calibration.draw,
            "images": len(chosen),
            "seed": calibration.seed,
            "same_prediction": float(same.mean()),
            "same_prediction_worst_class": min(float(same[labels == label].mean()) for label in np.unique(labels)),
        }
        save_described(model, path, {**run.facts, "quantization": quantization})


class _Reader(CalibrationDataReader):
    def __init__(self, batches: Iterator[np.ndarray]) -> None:
        self.batches = batches

    def get_next(self) -> dict[str, np.ndarray] | None:
        images = next(self.batches, None)
        return None if images is None else {"images": images}
