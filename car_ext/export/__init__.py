"""A trained run as a file that other runtimes load."""

from .onnx import to_onnx

__all__ = ["to_onnx"]
