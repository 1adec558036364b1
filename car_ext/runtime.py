"""An exported model in the runtime it was made for, described by its own metadata."""

import contextlib
import ctypes
import json
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from google.protobuf.message import DecodeError, Message
from torch.export.passes import move_to_device_pass

from car_ext.errors import InputError

QUIET = 3  # errors only
FACTS = ("class_names", "class_counts", "image_size", "stored_size", "channels", "train_worst_class_accuracy")
FACTS_FILE = "car_ext.json"  # inside .pt and .pt2 archives


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


class Described:
    """A classifier ``model(images)``: uint8 (N, H, W, C) to float32 logits (N, K), with numpy in and out.

    Attributes:
        class_names, class_counts: K names and K training counts.
        image_size, stored_size, channels: how images are prepared: shorter side to ``stored_size``, then the centre
            ``image_size`` square.
        train_worst_class_accuracy: fraction, or None if the run was not finished.
        provider: what computes.
        format: what kind of model it is: float32, float16 or int8 (ONNX), TorchScript, torch.export, PyTorch.
    """

    def __init__(self, facts: Mapping[str, Any], provider: str, format: str) -> None:
        self.class_names: list[str] = facts["class_names"]
        self.class_counts: list[int] = facts["class_counts"]
        self.image_size: int = facts["image_size"]
        self.stored_size: int = facts["stored_size"]
        self.channels: int = facts["channels"]
        self.train_worst_class_accuracy: float | None = facts["train_worst_class_accuracy"]
        self.provider = provider
        self.format = format

    @property
    def image_shape(self) -> tuple[int, int, int]:
        return self.image_size, self.image_size, self.channels

    def __call__(self, images: np.ndarray) -> np.ndarray:
        raise NotImplementedError


class OnnxClassifier(Described):
    """An ONNX file in onnxruntime, on the GPU where there is one that works.

    Weights outside the file are read from its own folder only: a path that leads elsewhere would let a model file
    read any file of its user.

    Raises:
        InputError: no such file, not an ONNX model, external data outside its folder, or a model that was not exported
            by car_ext.
    """

    def __init__(self, path: str | Path, providers: list[str] | None = None) -> None:
        _check_file(path)
        description = check_external_data(Path(path))
        options = onnxruntime.SessionOptions()
        options.log_severity_level = QUIET
        try:
            self.session = onnxruntime.InferenceSession(path, options, providers=providers or working_providers())
        except Exception as error:  # onnxruntime's own exceptions share no base class
            raise InputError(f"{str(path)!r} is not a model onnxruntime can load: {_first_line(error)}") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        with _complete_facts(path):
            facts = {key: json.loads(properties[key]) for key in FACTS}
        super().__init__(facts, self.session.get_providers()[0], _precision(description))

    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.session.run(["logits"], {"images": images})[0]


class TorchClassifier(Described):
    """A TorchScript (.pt) or torch.export (.pt2) file in PyTorch. Loading runs what the file says: trust its source.

    Raises:
        InputError: no such file, not such a model, or one that was not exported by car_ext.
    """

    def __init__(self, path: str | Path, device: str | None = None) -> None:
        _check_file(path)
        self.device = device or ("cuda" if torch.cuda.is_available() else "cpu")
        loaders = {".pt": ("TorchScript", _load_torchscript), ".pt2": ("torch.export", _load_exported)}
        kind, load = loaders[Path(path).suffix]
        extra = {FACTS_FILE: ""}
        try:
            self.module = load(path, self.device, extra)
        except Exception as error:  # a zip reader, a parser and a linker, each with exceptions of its own
            raise InputError(f"{str(path)!r} is not a {kind} model PyTorch can load: {_first_line(error)}") from error
        with _complete_facts(path):
            super().__init__(json.loads(extra[FACTS_FILE]), f"{kind} {self.device}", kind)

    @torch.inference_mode()
    def __call__(self, images: np.ndarray) -> np.ndarray:
        return self.module(torch.from_numpy(images).to(self.device)).cpu().numpy()


RUNTIMES = {".onnx": OnnxClassifier, ".pt": TorchClassifier, ".pt2": TorchClassifier}


def open_file(path: str | Path) -> Described:
    """An exported file in its runtime, chosen by the ending of its name.

    Raises:
        InputError: another ending, or as of the runtime's class.
    """
    _check_file(path)
    if Path(path).suffix not in RUNTIMES:
        raise InputError(f"{str(path)!r} is no model file: give one that ends in {', '.join(RUNTIMES)}.")
    return RUNTIMES[Path(path).suffix](path)


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
        raise InputError(f"{str(path)!r} is not a model onnxruntime can load: {_first_line(error)}") from error
    folder = path.resolve().parent
    for tensor in _tensors(model):
        for entry in tensor.external_data:
            if entry.key != "location":
                continue
            if Path(entry.value).is_absolute() or not (folder / entry.value).resolve().is_relative_to(folder):
                raise InputError(
                    f"{str(path)!r} wants to read {entry.value!r}, outside its folder, for {tensor.name!r}: do not use "
                    "this file; export/to_onnx.py writes relative paths only."
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


def _load_torchscript(path: str | Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # the deprecation of the format
        return torch.jit.load(path, map_location=device, _extra_files=extra)


def _load_exported(path: str | Path, device: str, extra: dict[str, str]) -> torch.nn.Module:
    program = torch.export.load(path, extra_files=extra)
    return move_to_device_pass(program, device).module()


def _check_file(path: str | Path) -> None:
    if not Path(path).is_file():
        raise InputError(f"there is no model file {str(path)!r}; export one with export/to_onnx.py RUN.")


@contextlib.contextmanager
def _complete_facts(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (KeyError, json.JSONDecodeError) as error:
        raise InputError(
            f"{str(path)!r} lacks the metadata that export/to_onnx.py writes (problem: {error}); export it again."
        ) from error


def _first_line(error: Exception) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]
