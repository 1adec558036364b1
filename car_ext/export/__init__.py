"""A trained run as a file that other runtimes load."""

from typing import TYPE_CHECKING, Any

from car_ext.export.calibration import Calibration
from car_ext.export.confidence import Confidence
from car_ext.export.export import export_run, to_onnx
from car_ext.export.format import FORMATS, Format, open_file

if TYPE_CHECKING:
    from car_ext.export.translations import onnx_translations

__all__ = [
    "FORMATS",
    "Calibration",
    "Confidence",
    "Format",
    "export_run",
    "onnx_translations",
    "open_file",
    "register",
    "to_onnx",
]

register = FORMATS.register


def __getattr__(name: str) -> Any:
    """Imports what needs onnxscript only when it is asked for (PEP 562)."""
    if name != "onnx_translations":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from car_ext.export.translations import onnx_translations

    return onnx_translations
