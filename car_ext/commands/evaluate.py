"""Score exported models, and training runs, one after another on the same images, the worst class in front."""

import argparse
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from car_ext.cli.parser import Number, OutputFile, Parser
from car_ext.errors import InputError

if TYPE_CHECKING:
    from car_ext.evaluation.evaluate import Evaluation
    from car_ext.evaluation.gate import Gate
    from car_ext.evaluation.outcome import Outcome
    from car_ext.evaluation.verdict import Verdict

EXAMPLES = """\
examples:
  %(prog)s runs/NAME/model.onnx --data digits
      one file, and evaluation.html beside it
  %(prog)s runs/NAME --data digits --predictions digits.parquet
      and a row for each image: its file, its class, the five most probable ones, its loss
  %(prog)s runs/NAME runs/NAME/model.int8.onnx --data digits --gate worst=0.02
      the run and its int8 file; exits with 1 if the worst class lost more than 0.02, and not by chance
  %(prog)s new.onnx --data photos --baseline last.json --gate class=0.05 --require 'worst>=0.6' --junit gate.xml
      for a pipeline: against the JSON of an earlier evaluation, and a limit that holds in any case
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("models", nargs="+", metavar="MODEL", help="exported files, or --out folders of runs")
    parser.add_argument("--data", required=True, metavar="PATH", help="as in training; its test images")
    parser.add_argument("--data-root", metavar="DIR", help="as in training")
    parser.add_argument("--label-column", metavar="NAME", help="as in training")
    parser.add_argument("--cache-dir", default="auto", metavar="DIR", help="as in training (%(default)s)")
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
    _add_gate(parser.add_argument_group("gate: exit with 1 where a model is not good enough"))


def _add_results(parser: Parser) -> None:
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


def _add_gate(gate: argparse._ArgumentGroup) -> None:
    from car_ext.evaluation.rules import EVERY_CLASS, LEVEL, ONE_CLASS, TESTS, gate_keys, required

    words, others = gate_keys(), [name for name in required() if name not in gate_keys()]
    gate.add_argument(
        "--gate",
        action="append",
        metavar="SCORE=FALL,...",
        help="a score of a later model may be lower than the first one's by at most this fraction; "
        f"scores: {', '.join(words)}, {EVERY_CLASS} (any one), {ONE_CLASS}NAME; example: worst=0.02,overall=0.005",
    )
    gate.add_argument(
        "--require",
        action="append",
        metavar="SCORE>=VALUE,...",
        help=f"a score must reach this: those of --gate, {', '.join(others)}; {EVERY_CLASS} is every class, also one "
        "without test images, which fails; errors take <=; the first of several models is exempt where there is no "
        "--baseline, as it is the old one; example: 'worst>=0.6,class:dog>=0.8,ece<=0.1'",
    )
    gate.add_argument(
        "--baseline",
        metavar="FILE",
        help="the first model, in place of a file of it: what evaluate --json wrote of it earlier",
    )
    gate.add_argument(
        "--gate-test",
        choices=TESTS,
        default=TESTS[0],
        help="paired: a fall counts where chance is no likely cause, by the images that only one of the two models has "
        "right (McNemar's test; a permutation test for scores of classes); none: every fall counts (%(default)s)",
    )
    gate.add_argument(
        "--gate-level",
        action=Number,
        kind=float,
        default=LEVEL,
        metavar="P",
        help="a fall counts where chance does as much this often at most (%(default)s)",
    )
    gate.add_argument("--junit", metavar="FILE", action=OutputFile, help="write the checks here, as JUnit's XML")


def run(arguments: argparse.Namespace) -> int:
    """Scores all, prints and writes it; returns 1 where the gate breaks."""
    gate = _gate(arguments)
    predictions = arguments.predictions or (arguments.json and arguments.json.with_suffix(".predictions.parquet"))
    if arguments.logits and not predictions:
        raise InputError("--logits belong to the predictions of each image: add --predictions FILE.parquet.")

    from car_ext import text
    from car_ext.datasets import DataOptions
    from car_ext.evaluation.baseline import read_baseline
    from car_ext.evaluation.evaluate import evaluate_all
    from car_ext.files import write_json

    baseline = read_baseline(arguments.baseline) if arguments.baseline else None
    evaluations = evaluate_all(
        arguments.models,
        arguments.data,
        options=DataOptions(
            data_root=arguments.data_root, label_column=arguments.label_column, cache_dir=arguments.cache_dir
        ),
        batch_size=arguments.batch_size,
        workers=arguments.workers,
        keep_logits=arguments.logits,
        test_prior=arguments.test_prior,
    )
    verdicts = _judge(gate, evaluations, baseline)
    summaries = [evaluation.summary for evaluation in evaluations]
    names = text.short_names(arguments.models)
    _print(names, evaluations, arguments.worst)
    if predictions:
        _write_predictions(evaluations, predictions)
    if arguments.json:
        write_json(arguments.json, summaries if len(summaries) > 1 else summaries[0])
    if not arguments.no_report:
        _write_report(names, evaluations, arguments.report)
    return _tell(verdicts, arguments.junit)


def _gate(arguments: argparse.Namespace) -> "Gate":
    from car_ext.evaluation.gate import Gate
    from car_ext.evaluation.rules import parse_gate, parse_require

    gate = Gate(
        parse_require(arguments.require or ()),
        parse_gate(arguments.gate or ()),
        arguments.gate_test,
        arguments.gate_level,
    )
    if gate.falls and not arguments.baseline and len(arguments.models) < 2:
        raise InputError("--gate compares with the first model: give two or more, or --baseline.")
    if arguments.baseline and not gate.falls:
        raise InputError("--baseline is what --gate compares with: say what may fall, such as --gate worst=0.02.")
    if arguments.junit and not (gate.falls or gate.limits):
        raise InputError("--junit writes what --gate and --require say: give one of them.")
    return gate


def _judge(gate: "Gate", evaluations: Sequence["Evaluation"], baseline: "Outcome | None") -> dict[str, "Verdict"]:
    """Model to verdict, each also noted in the model's summary; none where nothing was asked."""
    from car_ext.evaluation.losses import differences
    from car_ext.evaluation.outcome import Outcome

    if not (gate.falls or gate.limits):
        return {}
    outcomes = [Outcome.of(evaluation.summary, evaluation.predictions) for evaluation in evaluations]
    first = baseline or (outcomes.pop(0) if len(outcomes) > 1 else None)
    verdicts = {str(outcome.summary["model"]): gate.judge(outcome, first) for outcome in outcomes}
    for evaluation in evaluations:
        summary = evaluation.summary
        if baseline:
            summary |= {"baseline": baseline.summary["model"], "difference": differences(baseline.summary, summary)}
        if summary["model"] in verdicts:
            summary |= verdicts[summary["model"]].facts()
    return verdicts


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


def _tell(verdicts: Mapping[str, "Verdict"], junit: Path | None) -> int:
    """The exit code, after a sentence for each check, and the same where the pipeline asks for it."""
    from car_ext.evaluation.verdict import markdown, write_junit
    from car_ext.text import printable

    for model, verdict in verdicts.items():
        for check in verdict.checks:
            print(f"gate: {printable(f'{model}: {check.sentence}')}", file=sys.stdout if check.passed else sys.stderr)
    if junit:
        write_junit(junit, verdicts)
    if verdicts and (summary := os.environ.get("GITHUB_STEP_SUMMARY")):
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(markdown(verdicts))
    return 0 if all(verdict.passed for verdict in verdicts.values()) else 1
