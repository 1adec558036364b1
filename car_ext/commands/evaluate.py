"""Score exported models, and training runs, one after another on the same images, the worst class in front."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_ext.cli.parser import Number, OutputFile, Parser
from car_ext.errors import InputError

if TYPE_CHECKING:
    from car_ext.evaluation.evaluate import Evaluation

EXAMPLES = """\
examples:
  %(prog)s runs/NAME/model.onnx --data digits
      one file, and evaluation.html beside it
  %(prog)s runs/NAME --data digits --predictions digits.parquet
      and a row for each image: its file, its class, the five most probable ones, its loss
  %(prog)s runs/NAME runs/NAME/model.int8.onnx --data digits --gate worst=0.02
      the run and its int8 file; exits with 1 if the worst class lost more than 0.02
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="exported files, or --out folders of runs")
    parser.add_argument("--data", required=True, metavar="PATH", help="as in training; its test images")
    parser.add_argument("--data-root", metavar="DIR", help="as in training")
    parser.add_argument("--label-column", metavar="NAME", help="as in training")
    parser.add_argument(
        "--batch-size", action=Number, low=1, metavar="N", help="images a call (default: by memory, at most 256)"
    )
    parser.add_argument(
        "--workers",
        action=Number,
        low=1,
        metavar="N",
        help="threads that decode images (default: one a core, at most 8)",
    )
    _add_results(parser)


def _add_results(parser: Parser) -> None:
    from car_ext.evaluation.gate import EVERY_CLASS, gate_keys

    parser.add_argument(
        "--worst", action=Number, low=1, default=5, metavar="N", help="how many worst classes to list (%(default)s)"
    )
    parser.add_argument(
        "--test-prior",
        metavar="PRIOR",
        help="scores also for classes that are as frequent as where the model is used: uniform, train, or a file of "
        "lines class,weight or of JSON {class: weight}",
    )
    parser.add_argument(
        "--json",
        metavar="FILE",
        action=OutputFile,
        help="write the scores here, keys as in summary.json; of several a list",
    )
    parser.add_argument(
        "--predictions",
        metavar="FILE.parquet",
        action=OutputFile,
        help="write what each image is taken for, a row an image; of later models FILE-2.parquet and so on "
        "(default: beside --json, if given)",
    )
    parser.add_argument(
        "--logits", action="store_true", help="with every class's logit, 4 bytes each; car-ext labels needs them"
    )
    page = parser.add_mutually_exclusive_group()
    page.add_argument(
        "--report",
        metavar="FILE",
        action=OutputFile,
        help="the HTML report to write (default: evaluation.html by the first model)",
    )
    page.add_argument("--no-report", action="store_true", help="write none")
    parser.add_argument(
        "--gate",
        metavar="SCORE=FALL,...",
        help="exit with 1 if a score of a later model is lower than the first one's by more than this fraction; "
        f"scores: {', '.join(gate_keys())}, {EVERY_CLASS} (any one); example: worst=0.02,overall=0.005",
    )


def run(arguments: argparse.Namespace) -> int:
    """Scores all, prints and writes it; returns 1 where the gate breaks."""
    from car_ext.evaluation.gate import parse_gate

    gate = parse_gate(arguments.gate) if arguments.gate else {}
    if gate and len(arguments.models) < 2:
        raise InputError("--gate compares with the first model: give two or more.")

    predictions = arguments.predictions or (arguments.json and arguments.json.with_suffix(".predictions.parquet"))
    if arguments.logits and not predictions:
        raise InputError("--logits belong to the predictions of each image: add --predictions FILE.parquet.")

    from car_ext import text
    from car_ext.datasets import DataOptions
    from car_ext.evaluation.evaluate import evaluate_all
    from car_ext.files import write_json

    evaluations = evaluate_all(
        arguments.models,
        arguments.data,
        options=DataOptions(data_root=arguments.data_root, label_column=arguments.label_column),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        keep_logits=arguments.logits,
        test_prior=arguments.test_prior,
    )
    summaries = [evaluation.summary for evaluation in evaluations]
    names = text.short_names(arguments.models)
    _print(names, evaluations, arguments.worst)
    if predictions:
        _write_predictions(evaluations, predictions)
    if arguments.json:
        write_json(arguments.json, summaries if len(summaries) > 1 else summaries[0])
    if not arguments.no_report:
        _write_report(names, evaluations, arguments.report)
    return _hold(gate, summaries)


def _print(names: Sequence[str], evaluations: Sequence["Evaluation"], worst: int) -> None:
    from car_ext.cli.tables import print_evaluations, print_prior, print_worst
    from car_ext.metrics.summary import worst_confusions

    first = evaluations[0].summary
    summaries = {name: evaluation.summary for name, evaluation in zip(names, evaluations, strict=True)}
    print_evaluations(summaries, title=f"{first['data']}, test images")
    print(first["intervals"]["note"])
    if "prior" in first:
        print_prior(summaries)
    for summary, findings, _ in evaluations:
        classes, counts = list(summary["class_counts"]), list(summary["class_counts"].values())
        bounds = summary["intervals"]["per_class_accuracy"]
        print_worst(
            [
                {**entry, "interval": bounds[entry["class"]]}
                for entry in worst_confusions(findings.confusion, classes, counts, worst=worst)
            ],
            title=f"worst classes of {summary['model']} (95 % interval)",
        )


def _write_predictions(evaluations: Sequence["Evaluation"], path: Path) -> None:
    """A file for each model, whose summary then names it."""
    from car_ext.metrics.predictions_file import PredictionsFile

    for number, (summary, _, predictions) in enumerate(evaluations, 1):
        own = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
        PredictionsFile(tuple(summary["class_counts"]), {"test": predictions}).write(own)
        summary["predictions"] = str(own)
        print(f"predictions of {summary['model']} written to {own}")


def _write_report(names: Sequence[str], evaluations: Sequence["Evaluation"], path: Path | None) -> None:
    """To a place of its own choice where none was asked for, which may not be writable: that fails no evaluation."""
    from car_ext import report

    runs = [
        report.Run(f"{name} ({summary['format']})", summary, findings)
        for name, (summary, findings, _) in zip(names, evaluations, strict=True)
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


def _hold(gate: Mapping[str, float], summaries: Sequence[Mapping[str, Any]]) -> int:
    """The exit code, after a sentence for each fall that the gate does not allow."""
    from car_ext.evaluation.gate import broken

    failures = [
        f"{s['model']}: {fall}" for s in summaries[1:] for fall in broken(gate, s["difference"], s["class_counts"])
    ]
    for failure in failures:
        print(f"gate: {failure}", file=sys.stderr)
    return 1 if failures else 0
