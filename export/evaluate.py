#!/usr/bin/env python
"""Score an exported model in onnxruntime, the worst class in front."""

import argparse
import sys
from pathlib import Path

from car_ext import cli
from car_ext.datasets import DataOptions
from car_ext.errors import InputError
from car_ext.evaluate import BATCH_SIZE, evaluate
from car_ext.files import write_json
from car_ext.metrics import worst_confusions


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python export/evaluate.py runs/NAME/model.onnx --data digits --json scores.json",
    )
    parser.add_argument("model", metavar="MODEL.onnx", help="a file written by export/to_onnx.py")
    parser.add_argument("--data", required=True, metavar="PATH", help="as for train/run.py; its test images")
    parser.add_argument("--data-root", metavar="DIR", help="as for train/run.py")
    parser.add_argument("--label-column", metavar="NAME", help="as for train/run.py")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write the scores here, keys as in summary.json")
    parser.add_argument("--batch-size", type=int, default=BATCH_SIZE, metavar="N", help="images a call (%(default)s)")
    parser.add_argument(
        "--worst", type=int, default=5, metavar="N", help="how many worst classes to list (%(default)s)"
    )
    arguments = parser.parse_args()
    if arguments.batch_size < 1 or arguments.worst < 1:
        raise InputError("--batch-size and --worst must be at least 1.")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        raise InputError(f"--json {arguments.json}: its folder does not exist; create it or name another file.")
    options = DataOptions(data_root=arguments.data_root, label_column=arguments.label_column)
    summary, confusion = evaluate(arguments.model, arguments.data, options=options, batch_size=arguments.batch_size)
    cli.print_summary({summary["provider"].removesuffix("ExecutionProvider"): summary}, title=arguments.model)
    names, counts = list(summary["class_counts"]), list(summary["class_counts"].values())
    cli.print_worst(worst_confusions(confusion, names, counts, worst=arguments.worst), title="worst classes")
    print(f"{summary['images']} images, {summary['images_per_second']:.0f} images/s")
    if arguments.json:
        write_json(arguments.json, summary)


if __name__ == "__main__":
    sys.exit(cli.run(main))
