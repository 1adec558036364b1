"""An ONNX file in onnxruntime."""

import ctypes
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
from google.protobuf.message import DecodeError, Message

from car_ext.errors import InputError, first_line
from car_ext.runtimes.described import FACTS, OPTIONAL_FACTS, Described, check_file, complete_facts

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


class OnnxClassifier(Described):
    """An ONNX file in onnxruntime, on the GPU where there is one that works.

    Weights outside the file are read from its own folder only: a path that leads elsewhere would let a model file
    read any file of its user.

    Raises:
        InputError: no such file, not an ONNX model, external data outside its folder, or a model that was not exported
            by car_ext.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None) -> None:
        check_file(path)
        description = check_external_data(Path(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers or working_providers())
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise InputError(f"{str(path)!r} is not a model onnxruntime can load: {first_line(error)}") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        with complete_facts(path):
            facts = {key: json.loads(properties[key]) for key in FACTS}
            facts |= {key: json.loads(properties[key]) for key in OPTIONAL_FACTS if key in properties}
        super().__init__(facts, self.session.get_providers()[0], _precision(description))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"images": images})[0]


def check_external_data(path: Path) -> onnx.ModelProto:
    """Hold the weights that an ONNX model keeps in other files to files in its own folder.

    Returns:
        The model without those weights.

    Raises:
        InputError: not an ONNX model, or a path that is absolute or leads, links followed, out of the folder.
    """
    try:
        model = onnx.load(path, load_external_data=False)
    except DecodeError as error:
        raise InputError(f"{str(path)!r} is not a model onnxruntime can load: {first_line(error)}") from error
    folder = path.resolve().parent
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            if Path(entry.value).is_absolute() or not (folder / entry.value).resolve().is_relative_to(folder):
                raise InputError(
                    f"{str(path)!r} wants to read {entry.value!r}, outside its folder, for {tensor.name!r}: do not use "
                    "this file; car-ext export writes relative paths only."
                )
    return model


def _tensors(message: Message) -> Iterator[onnx.TensorProto]:
    """Every tensor at any depth: initializers, attributes, subgraphs, functions."""
    for field, value in message.ListFields():
        if field.message_type is None:
            continue
        for child in [value] if isinstance(value, Message) else value:
            if isinstance(child, onnx.TensorProto):
                yield child
            else:
                yield from _tensors(child)


def _precision(model: onnx.ModelProto) -> str:
    if any(node.op_type == "DequantizeLinear" for node in model.graph.node):
        return "int8"
    kinds = {tensor.data_type for tensor in model.graph.initializer}
    return "float16" if onnx.TensorProto.FLOAT16 in kinds else "float32"
