"""``python -m car_ext``: versions, what was built and what works here. The first thing to paste into a bug report.

``python -m car_ext methods`` lists every loss, regularizer, head, sampler, mix and second stage;
``python -m car_ext report RUN [RUN ...]`` writes an HTML file about one or several runs;
``python -m car_ext monitor LOG.jsonl`` writes one about a deployed model over time.
"""

import argparse
import importlib.metadata
import json
import platform
import sys
from pathlib import Path

PACKAGES = ("torch", "torchvision", "timm", "numpy", "onnx", "onnxscript", "onnxruntime-gpu", "onnxruntime", "triton")


def versions() -> dict:
    """Everything a maintainer asks first, as plain data."""
    import torch

    from car_ext import __version__
    from car_ext.ops import library as _library
    from car_ext.runtimes.onnx_file import working_providers

    def version(name: str) -> str:
        try:
            return importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            return "-"

    found = {name: version(name) for name in PACKAGES}
    return {
        "car_ext": __version__,
        "python": f"{sys.version.split()[0]} on {platform.platform()}",
        "packages": {name: number for name, number in found.items() if number != "-"},
        "operators, CPU": f"{_library.CPU_STATUS}: {_library.CPU_OBJECT}",
        "operators, CUDA": _library.CUDA_STATUS + (f": {_library.CUDA_OBJECT}" if _library.CUDA_OBJECT else ""),
        "build": _library.build_info() or "no build information (car_ext._info is missing)",
        "devices": [
            f"cpu, {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}",
            *(
                f"cuda:{i}, {torch.cuda.get_device_name(i)}, compute capability "
                + ".".join(map(str, torch.cuda.get_device_capability(i)))
                for i in range(torch.cuda.device_count())
            ),
        ],
        "operator works on": [device for device in ("cpu", "cuda") if _operator_works(device)],
        "onnxruntime providers": working_providers(),
    }


def _operator_works(device: str) -> bool:
    import torch

    from car_ext import CAR

    if device == "cuda" and not torch.cuda.is_available():
        return False
    logits = torch.tensor([[0.0, 1.0], [1.0, 0.0]], device=device, requires_grad=True)
    CAR([2, 1]).to(device)(logits, torch.tensor([0, 1], device=device)).backward()
    return bool(logits.grad.isfinite().all() and logits.grad.any())


def _methods(file: Path | None) -> int:
    from car_ext.methods import table

    if file is None:
        print(table.markdown())
        return 0
    introduction, _, _ = file.read_text(encoding="utf-8").partition("\n## ")
    file.write_text(introduction + "\n" + table.markdown(), encoding="utf-8")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m car_ext", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="print JSON instead of text")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    methods = commands.add_parser("methods", help="every method: options, formula, source, published number")
    methods.add_argument("--write", type=Path, metavar="FILE.md", help="write the table behind the file's introduction")
    of_runs = commands.add_parser("report", help="one HTML file about one or several runs, the first compared to")
    of_runs.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="--out folder of a finished training run")
    of_runs.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="(%(default)s)")
    of_log = commands.add_parser("monitor", help="one HTML file about a deployed model over time")
    of_log.add_argument("log", type=Path, metavar="LOG.jsonl", help="--log file of examples/monitor.py")
    of_log.add_argument("--out", type=Path, default=Path("monitor.html"), metavar="FILE.html", help="(%(default)s)")
    arguments = parser.parse_args()
    if arguments.command in ("report", "monitor"):
        from car_ext import report

        if arguments.command == "report":
            report.write(arguments.runs, arguments.out)
        else:
            report.write_monitoring(arguments.log, arguments.out)
        print(f"written to {arguments.out}")
        return 0
    if arguments.command == "methods":
        return _methods(arguments.write)
    facts = versions()
    if arguments.json:
        print(json.dumps(facts, indent=2))
        return 0
    for name, value in facts.items():
        if isinstance(value, dict):
            value = ", ".join(f"{key} {item}" for key, item in value.items())
        elif isinstance(value, list):
            value = "; ".join(value)
        print(f"{name:<22} {value}")
    return 0


if __name__ == "__main__":
    from car_ext.cli.exits import run

    sys.exit(run(main))
