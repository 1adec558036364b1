"""Loads the shared objects that setup.py built, and says what came of it."""

import importlib.util
import sys
from pathlib import Path

import torch


def _find(name: str) -> Path | None:
    """The object beside this file or, when Python runs from a source checkout, in the installed package."""
    folders = [Path(__file__).parents[1], *(Path(entry) / "car_ext" for entry in sys.path)]
    return next((found for folder in folders for found in sorted(folder.glob(f"{name}.*so"))), None)


def _load(name: str) -> tuple[Path | None, str]:
    path = _find(name)
    if path is None:
        return None, "not built"
    try:
        torch.ops.load_library(path)
    except OSError as error:
        return None, f"{path} does not load: {error}"
    return path, "loaded"


CPU_OBJECT, CPU_STATUS = _load("_C")
if CPU_OBJECT is None:
    raise ImportError(
        f"car_ext's operators are missing ({CPU_STATUS}). Build them with `pip install .` in the source folder; "
        "a C++20 compiler is needed."
    )

CUDA_OBJECT, CUDA_STATUS = (None, "this torch has no CUDA") if torch.version.cuda is None else _load("_C_cuda")


def build_info() -> dict[str, str]:
    """Compiler, torch and CUDA of the build; empty if the pybind11 object is missing or for another Python."""
    path = _find("_info")
    if path is None:
        return {}
    spec = importlib.util.spec_from_file_location("car_ext._info", path)
    if spec is None or spec.loader is None:
        return {}
    try:
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    except ImportError:
        return {}
    return module.build_info()
