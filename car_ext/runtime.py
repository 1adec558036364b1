"""An exported model in onnxruntime, described by its own metadata."""

import ctypes
import json
from pathlib import Path

import numpy as np
import onnxruntime

from car_ext.errors import InputError

QUIET = 3  # errors only


def cuda_devices() -> int:
    """CUDA devices the driver can use; 0 without a driver. Asked of the driver itself: torch may be a CPU build."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return 0
    count = ctypes.c_int(0)
    works = driver.cuInit(0) == 0 and driver.cuDeviceGetCount(ctypes.byref(count)) == 0
    return count.value if works else 0


def working_providers() -> list[str]:
    """onnxruntime's execution providers that can run here, best first.

    The package lists every provider it was built with; asking for CUDA's without a device prints errors.
    """
    wanted = ["CUDAExecutionProvider"] if cuda_devices() else []
    return [name for name in (*wanted, "CPUExecutionProvider") if name in onnxruntime.get_available_providers()]


class OnnxClassifier:
    """``model(images)``: uint8 (N, H, W, C) to float32 logits (N, K), with numpy in and out.

    Attributes:
        class_names, class_counts: K names and K training counts.
        image_size, stored_size, channels: how images are prepared: shorter side to ``stored_size``, then the centre
            ``image_size`` square.
        train_worst_class_accuracy: fraction, or None if the run was not finished.

    Raises:
        InputError: no such file, not an ONNX model, or one that was not exported by car_ext.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None):
        if not Path(path).is_file():
            raise InputError(f"there is no model file {str(path)!r}; export one with export/to_onnx.py RUN.")
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers or working_providers())
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise InputError(f"{str(path)!r} is not a model onnxruntime can load: {_first_line(error)}") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        try:
            facts = {key: json.loads(properties[key]) for key in _FACTS}
        except (KeyError, json.JSONDecodeError) as error:
            raise InputError(
                f"{str(path)!r} lacks the metadata that export/to_onnx.py writes (problem: {error}); export it again."
            ) from error
        self.class_names: list[str] = facts["class_names"]
        self.class_counts: list[int] = facts["class_counts"]
        self.image_size: int = facts["image_size"]
        self.stored_size: int = facts["stored_size"]
        self.channels: int = facts["channels"]
        self.train_worst_class_accuracy: float | None = facts["train_worst_class_accuracy"]

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"images": images})[0]


_FACTS = ("class_names", "class_counts", "image_size", "stored_size", "channels", "train_worst_class_accuracy")


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0]
