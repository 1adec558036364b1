"""A trained run as a file that other runtimes load."""

from car_ext.export.formats import FILES, export_run, to_onnx
from car_ext.export.translations import onnx_translations

__all__ = ["FILES", "export_run", "onnx_translations", "to_onnx"]
