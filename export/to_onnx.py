#!/usr/bin/env python
"""Export a training run to ONNX: one file that takes uint8 images and carries its own preprocessing."""

import argparse
import sys

from car_ext import cli
from car_ext.export import to_onnx


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python export/to_onnx.py runs/digits-convnet-ce+car-seed0",
    )
    parser.add_argument("run", metavar="RUN", help="the --out folder of a training run")
    parser.add_argument("--out", metavar="FILE", help="the file to write (default: RUN/model.onnx)")
    arguments = parser.parse_args()
    path = to_onnx(arguments.run, arguments.out)
    print(f"{path}: {path.stat().st_size / 1e6:.2f} MB, checked against PyTorch in onnxruntime")


if __name__ == "__main__":
    sys.exit(cli.run(main))
