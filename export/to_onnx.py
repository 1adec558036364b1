#!/usr/bin/env python
"""Export a training run: files that take uint8 images, carry their own preprocessing and say what they are."""

import argparse
import sys

from car_ext.cli import exits
from car_ext.export import FORMATS, Calibration, export_run


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python export/to_onnx.py runs/digits-convnet-ce+car-seed0 --formats fp32 int8",
    )
    parser.add_argument("run", metavar="RUN", help="the --out folder of a training run")
    parser.add_argument("--out", metavar="PATH", help="the file to write, or a folder (default: RUN, with names below)")
    what = parser.add_mutually_exclusive_group()
    formats = FORMATS.known()
    listed = ", ".join(f"{name} ({format.file})" for name, format in formats.items())
    what.add_argument("--format", choices=formats, default="fp32", help=f"{listed}; default: %(default)s")
    what.add_argument("--formats", nargs="+", choices=formats, metavar="FORMAT", help="several of them")
    int8 = parser.add_argument_group("int8")
    int8.add_argument(
        "--calibration",
        choices=("class-balanced", "random"),
        default=Calibration.draw,
        help="how the training images are drawn that set the ranges of activations (%(default)s)",
    )
    int8.add_argument("--calibration-images", type=int, default=Calibration.images, metavar="N", help="(%(default)s)")
    int8.add_argument("--seed", type=int, default=Calibration.seed, metavar="N", help="of the draw (%(default)s)")
    int8.add_argument("--data", metavar="PATH", help="where the run's training data lie now (default: as then)")
    int8.add_argument("--data-root", metavar="DIR", help="and the files of a benchmark or list")
    correction = parser.add_argument_group("correction for class frequencies, built into the head")
    correction.add_argument(
        "--logit-adjust",
        type=float,
        metavar="TAU",
        help="logits less TAU * log frequency, 1 is usual; not for a run whose loss did this already",
    )
    correction.add_argument(
        "--tau-norm", type=float, metavar="TAU", help="class vectors divided by their norm to the power of TAU"
    )
    arguments = parser.parse_args()
    written = export_run(
        arguments.run,
        arguments.formats or [arguments.format],
        arguments.out,
        calibration=Calibration(
            arguments.calibration, arguments.calibration_images, arguments.seed, arguments.data, arguments.data_root
        ),
        logit_adjust=arguments.logit_adjust,
        tau_norm=arguments.tau_norm,
    )
    for name, path in written.items():
        size = sum(file.stat().st_size for file in (path, path.with_name(path.name + ".data")) if file.exists())
        checked = (
            "score it before use: export/evaluate.py" if formats[name].tolerance is None else "gives PyTorch's logits"
        )
        print(f"{path}: {size / 1e6:.2f} MB, {name}, {checked}")


if __name__ == "__main__":
    sys.exit(exits.run(main))
