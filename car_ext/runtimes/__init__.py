"""An exported model in the runtime it was made for, described by its own metadata."""

from pathlib import Path

from car_ext.errors import InputError
from car_ext.runtimes.described import Described, _check_file
from car_ext.runtimes.onnx_file import OnnxClassifier
from car_ext.runtimes.torch_file import TorchClassifier

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
