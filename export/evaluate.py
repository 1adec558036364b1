#!/usr/bin/env python
"""Score exported models, and training runs, one after another on the same images, the worst class in front."""

import argparse
import sys
from pathlib import Path

from car_ext import report, text
from car_ext.cli import exits
from car_ext.cli import tables as cli
from car_ext.datasets import DataOptions
from car_ext.errors import InputError
from car_ext.evaluation.evaluate import LARGEST_BATCH, Evaluation, evaluate_all
from car_ext.evaluation.gate import EVERY_CLASS, broken, gate_keys, parse_gate
from car_ext.files import write_json
from car_ext.metrics.summary import worst_confusions


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
    page = parser.add_mutually_exclusive_group()
    page.add_argument(
        "--report",
        metavar="FILE",
        type=Path,
        help="the HTML report to write (default: evaluation.html by the first model)",
    )
    page.add_argument("--no-report", action="store_true", help="write none")
    parser.add_argument(
        "--gate",
        metavar="SCORE=FALL,...",
        help="exit with 1 if a score of a later model is lower than the first one's by more than this fraction; "
        f"scores: {', '.join(gate_keys())}, {EVERY_CLASS} (any one); example: worst=0.02,overall=0.005",
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
    for option, path in (("--json", arguments.json), ("--report", arguments.report)):
        if path and not path.absolute().parent.is_dir():
            raise InputError(f"{option} {path}: its folder does not exist; create it or name another file.")
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
    summaries = [evaluation.summary for evaluation in evaluations]
    names = text.short_names(arguments.models)
    cli.print_evaluations(dict(zip(names, summaries, strict=True)), title=f"{summaries[0]['data']}, test images")
    print(summaries[0]["intervals"]["note"])
    for summary, findings in evaluations:
        classes, counts = list(summary["class_counts"]), list(summary["class_counts"].values())
        worst = worst_confusions(findings.confusion, classes, counts, worst=arguments.worst)
        bounds = summary["intervals"]["per_class_accuracy"]
        cli.print_worst(
            [{**entry, "interval": bounds[entry["class"]]} for entry in worst],
            title=f"worst classes of {summary['model']} (95 % interval)",
        )
    if arguments.json:
        write_json(arguments.json, summaries if len(summaries) > 1 else summaries[0])
    if not arguments.no_report:
        write_report(names, evaluations, arguments.report)
    failures = [f"{s['model']}: {fall}" for s in summaries[1:] for fall in broken(gate, s["difference"])]
    for failure in failures:
        print(f"gate: {failure}", file=sys.stderr)
    return 1 if failures else 0


def write_report(names: list[str], evaluations: list[Evaluation], path: Path | None) -> None:
    """To a place of its own choice where none was asked for, which may not be writable: that fails no evaluation."""
    runs = [
        report.Run(f"{name} ({summary['format']})", summary, findings)
        for name, (summary, findings) in zip(names, evaluations, strict=True)
    ]
    first = Path(evaluations[0].summary["model"])
    out = path or (first if first.is_dir() else first.parent) / "evaluation.html"
    try:
        report.write(runs, out)
    except (InputError, OSError) as error:
        if path:
            raise
        print(f"no report written: {error}", file=sys.stderr)
    else:
        print(f"report written to {out}")


if __name__ == "__main__":
    sys.exit(exits.run(main))
