"""Show versions, what was built and what works here: the first thing to paste into a bug report."""

import argparse
import importlib.metadata
import json
import platform
import sys
from typing import Any

from car_ext.cli.parser import Parser

EXAMPLES = """\
examples:
  %(prog)s --json
      the same, for a program
"""
PACKAGES = ("torch", "torchvision", "timm", "numpy", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "triton")


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    # Without a default: the program itself has the option too, for when there is no command.
    parser.add_argument(
        "--json", action="store_true", default=argparse.SUPPRESS, help="print JSON instead of text (info)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Prints it."""
    facts = versions()
    if getattr(arguments, "json", False):
        print(json.dumps(facts, indent=2))
        return
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = "; ".join(value)
        print(f"{name:<22} {value}")


def versions() -> dict[str, Any]:
    """Everything a maintainer asks first, as plain data."""
    import torch

    from car_ext import __version__
    from car_ext.datasets.cache_folder import find_folder, state
    from car_ext.machine.device import cpu_gains_by_bf16, cpu_has_bf16
    from car_ext.ops import library
    from car_ext.runtimes.onnx_file import working_providers
    from car_ext.text import gigabytes

    cache = state(find_folder("auto"), "")
    bf16 = "faster than float32" if cpu_gains_by_bf16() else "computed, not faster" if cpu_has_bf16() else "emulated"
    return {
        "car_ext": __version__,
        "python": f"{sys.version.split()[0]} on {platform.platform()}",
        "packages": {name: number for name in PACKAGES if (number := _version(name))},
        "operators, CPU": f"{library.CPU_STATUS}: {library.CPU_OBJECT}",
        "operators, CUDA": library.CUDA_STATUS + (f": {library.CUDA_OBJECT}" if library.CUDA_OBJECT else ""),
        "build": library.build_info() or "no build information (car_ext._info is missing)",
        "devices": [
            f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}, bfloat16 {bf16}",
            *(
                f"cuda:{i}, {torch.cuda.get_device_name(i)}, compute capability "
                + ".".join(map(str, torch.cuda.get_device_capability(i)))
                for i in range(torch.cuda.device_count())
            ),
        ],
        "operator works on": [device for device in ("cpu", "cuda") if _operator_works(device)],
        "onnxruntime providers": working_providers(),
        "decoded images": f"{cache['files']} files, {gigabytes(cache['bytes'])}, in {cache['folder']}",
    }


def _version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def _operator_works(device: str) -> bool:
    import torch

    from car_ext import CAR

    if device == "cuda" and not torch.cuda.is_available():
        return False
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]], device=device, requires_grad=True)
    CAR([2, 1]).to(device)(logits, torch.tensor([0, 1], device=device)).backward()
    gradient = logits.grad
    return gradient is not None and bool(gradient.isfinite().all() and gradient.any())
