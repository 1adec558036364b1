#!/usr/bin/env python
"""Build, test, check and time the CUDA operator on this machine's GPU; eight minutes on an H200, no network.

    python benchmarks/gpu.py --write benchmarks/results/

On a GPU machine that is lent for one command: copy the repository there, give this command, bring the folder back.
Needed there: torch >= 2.11 for CUDA, nvcc of the same major version, setuptools >= 77, ninja, pybind11. What else is
missing (pytest, timm, compute-sanitizer) costs the step that needs it, and the report says so.

Steps, in order; each has its own process and time limit, and the report is written anew after each:
  build      the operator for this GPU's architecture, in place (setup.py build_ext --inplace)
  tests      pytest, what is marked cuda
  bench      the operator beside plain PyTorch: full SVD, power iterations, torch.compile; phases, traffic, memory
  vit        a ViT-S/16 training step with and without CAR
  sanitizer  compute-sanitizer memcheck and racecheck on a small grid. Racecheck looks at shared memory within a
             block; it cannot see what the grid-wide waits order

The report is gpu-DATE-DEVICE.md, with all numbers in .json and the steps' output in .log. Exit code: 0 if no step
failed, 1 if one did, 2 without a GPU. --dry-run goes the same way on the CPU with tiny shapes, and its numbers mean
nothing.
"""

import argparse
import datetime
import importlib.metadata
import importlib.util
import json
import os
import platform
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import report

ROOT = Path(__file__).resolve().parents[1]
LIMITS = {"build": 200, "tests": 180, "bench": 170, "vit": 80, "sanitizer": 180}  # seconds
MEASURED = ("bench", "vit", "grid")  # what --step runs
WORTH_STARTING = 10  # seconds


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="where the report goes, beside standard output")
    parser.add_argument("--skip", choices=LIMITS, nargs="+", default=[], metavar="STEP", help="leave these out")
    parser.add_argument("--minutes", type=float, default=8, help="for all steps together (%(default)s)")
    parser.add_argument("--seconds", type=float, default=5, help="of turns for each shape of bench (%(default)s)")
    parser.add_argument("--dry-run", action="store_true", help="on the CPU, with tiny shapes, no build and no tests")
    parser.add_argument("--step", choices=MEASURED, help="only this, in this process; grid: what the sanitizer watches")
    parser.add_argument("--json", type=Path, metavar="FILE", help="with --step: also write what it finds here")
    arguments = parser.parse_args()
    device = "cpu" if arguments.dry_run else "cuda"
    if device == "cuda":
        import torch

        if not torch.cuda.is_available():
            parser.exit(2, "gpu.py: there is no CUDA device here; --dry-run tries the script itself on the CPU.\n")
    if arguments.step:
        found = run_step(arguments.step, device, arguments.seconds, lambda partial: save(partial, arguments.json))
        save(found, arguments.json)
        return 0

    facts = facts_of(device)
    with tempfile.TemporaryDirectory() as scratch:
        folder = arguments.write or Path(scratch)
        folder.mkdir(parents=True, exist_ok=True)
        device_name = re.sub(r"[^a-z0-9]+", "-", facts["device"].lower()).strip("-")
        runner = Runner(facts, folder / f"gpu-{facts['date']}-{device_name}", arguments)
        for name in LIMITS:
            runner.take(name)
        print("\n" + runner.report())
    return int(any(step["failed"] for step in runner.found["steps"]))


def run_step(name: str, device: str, seconds: float, save) -> dict:
    """What one measuring step finds; imports what only that step needs."""
    tiny = device == "cpu"
    if name == "bench":
        import kernels

        return kernels.measure(device, kernels.TINY if tiny else kernels.SHAPES, seconds, save)
    if name == "vit":
        import vit

        return vit.measure(device, tiny, 0.1 if tiny else 20)
    import grid

    return {"calls": grid.run(device)}


def save(found: dict, path: Path | None) -> None:
    if path:
        path.write_text(json.dumps(found, indent=1), encoding="utf-8")


def facts_of(device: str) -> dict[str, str]:
    facts = {
        "date": str(datetime.date.today()),
        "device": "dry run",
        "python": platform.python_version(),
        "torch": importlib.metadata.version("torch"),
        "car_ext": commit(),
        "command": shlex.join(["python", *sys.argv]),
    }
    if device == "cuda":
        import torch

        seen = torch.cuda.get_device_properties(0)
        facts |= {
            "device": seen.name,
            "architecture": f"{seen.major}.{seen.minor}",
            "multiprocessors": str(seen.multi_processor_count),
            "memory": f"{seen.total_memory / 2**30:.0f} GiB",
            "driver": first_line_of("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
            "torch": f"{torch.__version__}, CUDA {torch.version.cuda}",
        }
    return facts


def first_line_of(*command: str) -> str:
    """Of a command's output, "-" where it fails."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=20, cwd=ROOT)
    except (OSError, subprocess.SubprocessError):
        return "-"
    return (done.stdout.strip().splitlines() or ["-"])[0]


def commit() -> str:
    version = re.search(r'^version = "(.+)"', (ROOT / "pyproject.toml").read_text(encoding="utf-8"), re.M).group(1)
    return f"{version}, commit {first_line_of('git', 'describe', '--always', '--dirty')}"


class Runner:
    """Takes the steps one by one and keeps the report on disk up to date."""

    def __init__(self, facts: dict[str, str], stem: Path, arguments: argparse.Namespace):
        self.found = {"facts": facts, "steps": []}
        self.stem, self.arguments = stem, arguments
        self.log = stem.with_name(stem.name + ".log")
        self.log.write_text("", encoding="utf-8")
        self.deadline = time.monotonic() + 60 * arguments.minutes
        self.environment = os.environ | {"PYTHONUNBUFFERED": "1", "PYTHONPATH": path_with(ROOT)}

    def take(self, name: str) -> None:
        """One step, whatever comes of it."""
        print(f"== {name}", flush=True)
        start = time.monotonic()
        dry = self.arguments.dry_run and name in ("build", "tests")
        if name in self.arguments.skip or dry:
            outcome, failed = "skipped: " + ("a dry run" if dry else "as asked"), False
        elif self.left(name) < WORTH_STARTING:
            outcome, failed = "skipped: no time left", True
        else:
            outcome, failed = getattr(self, name)()
        step = {"name": name, "result": outcome, "seconds": time.monotonic() - start, "failed": failed}
        self.found["steps"].append(step)
        print(f"   {outcome} ({step['seconds']:.0f} s)", flush=True)
        save(self.found, self.stem.with_name(self.stem.name + ".json"))
        self.stem.with_name(self.stem.name + ".md").write_text(self.report(), encoding="utf-8")

    def report(self) -> str:
        return report.markdown(self.found)

    def left(self, name: str) -> float:
        return min(LIMITS[name], self.deadline - time.monotonic())

    def run(self, command: list[str], limit: float, **environment: str) -> tuple[int | None, str]:
        """Exit code (None: out of time) and output; on failure its end is printed."""
        code, output = run(command, limit, self.environment | environment)
        with self.log.open("a", encoding="utf-8") as log:
            log.write(f"$ {shlex.join(command)}\n{output}\n")
        if code != 0:
            print("\n".join(output.splitlines()[-40:]), flush=True)
        return code, output

    def build(self) -> tuple[str, bool]:
        code, _ = self.run(
            [sys.executable, "setup.py", "build_ext", "--inplace"],
            self.left("build"),
            TORCH_CUDA_ARCH_LIST=self.found["facts"]["architecture"],
        )
        return outcome_of(code), code != 0

    def tests(self) -> tuple[str, bool]:
        if not importlib.util.find_spec("pytest"):
            return "skipped: pytest is not installed", False
        marked = [path for path in (ROOT / "tests").rglob("test_*.py") if "pytest.mark.cuda" in path.read_text("utf-8")]
        command = [sys.executable, "-m", "pytest", "-m", "cuda", "--continue-on-collection-errors", "--durations=10"]
        if not importlib.util.find_spec("pytest_timeout"):  # pyproject.toml's `timeout` would be refused
            command += ["-o", "addopts=--import-mode=importlib -q -rs"]
        code, output = self.run([*command, *map(str, sorted(marked))], self.left("tests"))
        summary = re.findall(r"^.*\b(?:passed|failed|skipped|errors?)\b.* in .*$", output, re.M)
        outcome = summary[-1].strip("= ") if summary else outcome_of(code)
        return outcome, code != 0 or "passed" not in outcome

    def bench(self) -> tuple[str, bool]:
        return self.measure("bench")

    def vit(self) -> tuple[str, bool]:
        return self.measure("vit")

    def measure(self, name: str) -> tuple[str, bool]:
        """A step that leaves numbers, even if it does not come to its end."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "found.json"
            code, _ = self.run([*self.step(name), "--json", str(file)], self.left(name))
            if file.exists():
                self.found[name] = json.loads(file.read_text(encoding="utf-8"))
        return outcome_of(code), code != 0

    def step(self, name: str) -> list[str]:
        dry = ["--dry-run"] if self.arguments.dry_run else []
        return [sys.executable, __file__, "--step", name, "--seconds", str(self.arguments.seconds), *dry]

    def sanitizer(self) -> tuple[str, bool]:
        if self.arguments.dry_run:
            code, _ = self.run(self.step("grid"), self.left("sanitizer"))
            return f"the grid alone: {outcome_of(code)}", code != 0
        tool = find_sanitizer()
        if tool is None:
            return "skipped: no compute-sanitizer on PATH, in CUDA_HOME or among nvidia's packages", False
        outcomes, failed = [], False
        limit = self.left("sanitizer") / 2
        for check in ("memcheck", "racecheck"):
            command = [tool, "--tool", check, "--error-exitcode", "9", "--kernel-name", "kernel_substring=car_step"]
            # Without torch's cache every tensor is an allocation of its own, with nothing addressable beyond it.
            code, output = self.run([*command, *self.step("grid")], limit, PYTORCH_NO_CUDA_MEMORY_CACHING="1")
            summary = re.findall(r"(?:ERROR|RACECHECK) SUMMARY: (.+)", output)
            outcomes.append(f"{check}: " + ", ".join([outcome_of(code), *summary]))
            failed |= code != 0
        return "; ".join(outcomes), failed


def run(command: list[str], limit: float, environment: dict[str, str]) -> tuple[int | None, str]:
    """Exit code, None where it was ended after `limit` seconds with all it had started, and its output."""
    with tempfile.TemporaryFile() as output:
        with subprocess.Popen(
            command, cwd=ROOT, env=environment, stdout=output, stderr=subprocess.STDOUT, start_new_session=True
        ) as process:
            try:
                code = process.wait(limit)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                code = None
        output.seek(0)
        return code, output.read().decode(errors="replace")


def outcome_of(code: int | None) -> str:
    return "out of time" if code is None else "ok" if code == 0 else f"failed with exit code {code}"


def path_with(folder: Path) -> str:
    return os.pathsep.join(filter(None, [str(folder), os.environ.get("PYTHONPATH")]))


def find_sanitizer() -> str | None:
    name = "compute-sanitizer"
    nvidia = importlib.util.find_spec("nvidia")
    packages = [Path(place) for place in (nvidia.submodule_search_locations if nvidia else ())]
    places = [
        *(Path(home) / "bin" for home in (os.environ.get("CUDA_HOME"), "/usr/local/cuda") if home),
        *(found for package in packages for found in package.glob("cu*/bin")),
    ]
    return shutil.which(name) or next((str(place / name) for place in places if (place / name).exists()), None)


if __name__ == "__main__":
    sys.exit(main())
