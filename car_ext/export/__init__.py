"""A trained run as a file that other runtimes load."""

from .formats import FILES, export_run, to_onnx
from .translations import onnx_translations

__all__ = ["FILES", "export_run", "onnx_translations", "to_onnx"]
