"""An ONNX model in 8-bit integers, the ranges of its activations taken from training images."""

import logging
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
from onnxruntime.quantization.shape_inference import quant_pre_process
from onnxscript import ir

from car_ext import datasets
from car_ext.config.config import Config
from car_ext.datasets.reading import centres
from car_ext.errors import InputError
from car_ext.export.onnx import save_described
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.runtimes.onnx_file import OnnxClassifier
from car_ext.seeds import derive

BATCH_SIZE = 16
# Layers with weights, and those that pass 8 bits on as they are. Sums stay float32: a few features of a transformer's
# residual stream are so large that one scale for all would erase the others.
QUANTIZED = ["Conv", "Gemm", "MatMul", "Relu", "Clip", "MaxPool", "Reshape", "Transpose", "Flatten"]
OPTIONS = {
    "MatMulConstBOnly": True,  # attention multiplies activations by activations
    # One step of 8 bits over the logits of all classes would make ties, which the class with the lower label wins.
    "OpTypesToExcludeOutputQuantization": ["Gemm", "MatMul"],
}


@dataclass(frozen=True)
class Calibration:
    """Which training images the ranges of activations are taken from.

    Attributes:
        draw: "class-balanced": equally many of every class, as far as it has them, so that rare classes have a say in
            the ranges; "random": as they come, which in a long tail is mostly the head.
        images: how many; all where there are fewer.
        seed: of the draw.
        data, data_root: as for training; the run's own by default.
    """

    draw: str = "class-balanced"
    images: int = 512
    seed: int = 0
    data: str | None = None
    data_root: str | None = None

    def __post_init__(self) -> None:
        if self.draw not in ("class-balanced", "random"):
            raise InputError(f"--calibration is {self.draw!r}: give class-balanced or random.")
        if self.images < 1:
            raise InputError(f"--calibration-images is {self.images}: give at least 1.")

    def chosen(self, targets: np.ndarray) -> np.ndarray:
        """Indices of the images to take, (at most ``images``,) int64, none twice; targets (N,) are their labels."""
        order = np.random.default_rng(derive("calibration", self.seed)).permutation(len(targets))
        if self.draw == "class-balanced":
            # The n-th image of every class before the n + 1st of any.
            turns = np.empty(len(order), np.int64)
            for label in np.unique(targets):
                own = np.flatnonzero(targets[order] == label)
                turns[own] = np.arange(len(own))
            order = order[np.argsort(turns, kind="stable")]
        return order[: self.images]


def training_images(run: FinishedRun, calibration: Calibration) -> datasets.Split:
    """Raises InputError for data that cannot be read or have other classes than the run."""
    config = Config.from_dict(run.config, "the run")
    data, options = calibration.data or config.data, config.data_options
    if calibration.data_root:
        options = replace(options, data_root=calibration.data_root)
    # Nothing is decoded ahead: a few hundred images of perhaps a million are wanted.
    loaded = datasets.load(data, run.stored_size, config.imbalance_ratio, cache_bytes=0, options=options)
    if config.holdout:
        loaded = datasets.hold_out(loaded, config.holdout)
    if list(loaded.class_names) != run.class_names or loaded.channels != run.channels:
        raise InputError(f"{data} does not have the classes of the run; give its training data with --data.")
    return loaded.train


def save_int8(run: FinishedRun, float32: Path, path: Path, images: datasets.Split, calibration: Calibration) -> None:
    """Quantize an exported float32 file statically: QDQ, a scale for each output channel of a weight.

    Weights use 7 of the 8 bits: sums of two products of full range overflow, silently, in x86 CPUs without VNNI. The
    layer that gives the logits has float32 output. The metadata get ``quantization``: the calibration, and on its
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
