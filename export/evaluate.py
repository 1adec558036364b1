#!/usr/bin/env python
"""Score exported models, and training runs, one after another on the same images, the worst class in front."""

import argparse
import sys
from pathlib import Path

from car_ext import cli
from car_ext.datasets import DataOptions
from car_ext.errors import InputError
from car_ext.evaluate import LARGEST_BATCH, evaluate_all
from car_ext.files import write_json
from car_ext.gate import EVERY_CLASS, SCORES, broken, parse_gate
from car_ext.metrics import worst_confusions


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog="example: python export/evaluate.py runs/NAME runs/NAME/model.int8.onnx --data digits --gate worst=0.02",
    )
    parser.add_argument(
        "models", nargs="+", metavar="MODEL", help="files written by export/to_onnx.py, or --out folders of runs"
    )
    parser.add_argument("--data", required=True, metavar="PATH", help="as for train/run.py; its test images")
    parser.add_argument("--data-root", metavar="DIR", help="as for train/run.py")
    parser.add_argument("--label-column", metavar="NAME", help="as for train/run.py")
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="write the scores here, keys as in summary.json; of several a list"
    )
    parser.add_argument(
        "--gate",
        metavar="SCORE=FALL,...",
        help="exit with 1 if a score of a later model is lower than the first one's by more than this fraction; "
        f"scores: {', '.join(SCORES)}, {EVERY_CLASS} (any one); example: worst=0.02,overall=0.005",
    )
    parser.add_argument(
        "--batch-size", type=int, metavar="N", help=f"images a call (default: by memory, at most {LARGEST_BATCH})"
    )
    parser.add_argument(
        "--workers", type=int, metavar="N", help="threads that decode images (default: one a core, at most 8)"
    )
    parser.add_argument(
        "--worst", type=int, default=5, metavar="N", help="how many worst classes to list (%(default)s)"
    )
    arguments = parser.parse_args()
    for name in ("batch_size", "workers", "worst"):
        if (value := getattr(arguments, name)) is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} is {value}, but must be at least 1.")
    if arguments.json and not arguments.json.absolute().parent.is_dir():
        raise InputError(f"--json {arguments.json}: its folder does not exist; create it or name another file.")
    gate = parse_gate(arguments.gate) if arguments.gate else {}
    if gate and len(arguments.models) < 2:
        raise InputError("--gate compares with the first model: give two or more.")

    evaluations = evaluate_all(
        arguments.models,
        arguments.data,
        options=DataOptions(data_root=arguments.data_root, label_column=arguments.label_column),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
    )
    summaries = [summary for summary, _ in evaluations]
    names = [Path(model).name for model in arguments.models]
    columns = names if len(set(names)) == len(names) else arguments.models
    cli.print_evaluations(dict(zip(columns, summaries, strict=True)), title=f"{summaries[0]['data']}, test images")
    print(summaries[0]["intervals"]["note"])
    for summary, confusion in evaluations:
        names, counts = list(summary["class_counts"]), list(summary["class_counts"].values())
        worst = worst_confusions(confusion, names, counts, worst=arguments.worst)
        bounds = summary["intervals"]["per_class_accuracy"]
        cli.print_worst(
            [{**entry, "interval": bounds[entry["class"]]} for entry in worst],
            title=f"worst classes of {summary['model']} (95 % interval)",
        )
    if arguments.json:
        write_json(arguments.json, summaries if len(summaries) > 1 else summaries[0])
    failures = [f"{s['model']}: {fall}" for s in summaries[1:] for fall in broken(gate, s["difference"])]
    for failure in failures:
        print(f"gate: {failure}", file=sys.stderr)
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(cli.run(main))
