#!/usr/bin/env python
"""A hundred thousand classes from training to report: seconds and peak memory of each command.

    python benchmarks/many_classes.py                     # 100,000 classes
    python benchmarks/many_classes.py --classes 10000

The data are made up: a pattern of 8 x 8 pixels a class, with noise. The first class has K / 100 training images, the
n-th the n-th part of that, but each at least one; and each has one test image. One epoch with CAR's window, the whole
network trained; then the ONNX file, its scores in onnxruntime, and the report. Each command is a process of its own, so
that its memory is its own.
"""

import argparse
import io
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

SIDE = 8  # pixels
NOISE = 24  # standard deviation, of 256


def make(classes: int, folder: Path) -> None:
    """Parquet files of both splits."""
    import pyarrow
    from PIL import Image
    from pyarrow import parquet

    random = np.random.default_rng(0)
    patterns = random.integers(0, 256, (classes, SIDE, SIDE, 3))
    counts = np.maximum(1, classes // 100 // np.arange(1, classes + 1))
    for split, labels in (("train", np.repeat(np.arange(classes), counts)), ("test", np.arange(classes))):
        files = []
        for label in labels:
            noisy = patterns[label] + random.normal(0, NOISE, patterns[label].shape)
            file = io.BytesIO()
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(file, "bmp")
            files.append(file.getvalue())
        names = [f"kind {label:06d}" for label in labels]
        parquet.write_table(pyarrow.table({"image": files, "label": names}), folder / f"{split}-00000-of-00001.parquet")


def run(command: list[str]) -> tuple[float, float]:
    """Seconds, and gigabytes at the peak, of a command that must not fail."""
    start = time.perf_counter()
    process = subprocess.Popen(command)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return time.perf_counter() - start, usage.ru_maxrss * 1024 / 1e9


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--classes", type=int, default=100_000, metavar="K", help="(%(default)s)")
    parser.add_argument("--batch-size", type=int, default=256, metavar="N", help="(%(default)s)")
    parser.add_argument("--folder", type=Path, metavar="DIR", help="where all is kept (default: nowhere)")
    parser.add_argument("--make", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.make:
        make(arguments.classes, arguments.make)
        return
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        data, out = folder / "data", folder / "run"
        data.mkdir(parents=True, exist_ok=True)
        run([sys.executable, __file__, "--make", str(data), f"--classes={arguments.classes}"])
        measure(str(data), out, arguments.batch_size)


def measure(data: str, out: Path, batch_size: int) -> None:
    command, model, page = [sys.executable, "-m", "car_ext"], out / "model.onnx", out / "both.html"
    # The class prior in the loss, so that one epoch does not end with the first class for every image.
    method = ["--loss=balanced_softmax", "--regularizer=car:estimator=window"]
    training = [*method, "--augment=none", "--epochs=1", f"--batch-size={batch_size}"]
    results = {
        "train": run([*command, "train", f"--data={data}", *training, f"--out={out}"]),
        "export": run([*command, "export", str(out)]),
        "evaluate": run([*command, "evaluate", str(model), f"--data={data}", f"--json={out / 'scores.json'}"]),
        "report": run([*command, "report", str(out), f"--out={page}"]),
    }
    print("\n| command | seconds | GB at the peak |\n| --- | ---: | ---: |")
    for name, (seconds, gigabytes) in results.items():
        print(f"| {name} | {seconds:.0f} | {gigabytes:.2f} |")
    print()
    for file in ("summary.json", "findings.npz", "predictions.parquet", "model.onnx", "scores.json", "both.html"):
        print(f"{file}: {(out / file).stat().st_size / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
