"""Choose the best classifier of a folder for its worst classes, on the training images alone, and export it."""

import argparse
import dataclasses
from pathlib import Path

from car_ext.cli.parser import Number, Parser

EXAMPLES = """\
Frozen pretrained features, the same weights fine-tuned and small networks from scratch are raced; on the best, a dozen
heads are tried, with offsets fitted for the worst class; what is chosen is a run, exported to ONNX. The test images are
scored once.

examples:
  %(prog)s photos/ --hours 1
      photos/CLASS/*.jpg; a fifth is set aside as the test images
  %(prog)s photos/ --pretrained weights.safetensors --model resnet50 --hours 0.5
      with weights of your own; --no-pretrained tries networks from scratch alone
  %(prog)s photos/ --groups '(patient[0-9]+)' --target 'overall>=0.85'
      patients stay together; the best worst tenth among those with at least 85 %% overall, on your own folds
  %(prog)s photos/ --hours 1
      the same again goes on after an interruption
"""
DATA = ("imbalance_ratio", "img_size", "seed", "device", "threads", "workers", "cache_gb")


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.automatic.goal import WORDS
    from car_ext.cli.flags import add_options
    from car_ext.cli.parser import Words
    from car_ext.datasets import DataOptions

    parser.add_argument("data", metavar="DATA", help="as --data in training")
    parser.add_argument("--hours", action=Number, kind=float, low=0, metavar="H", help="what all may take (no limit)")
    parser.add_argument(
        "--target",
        default=WORDS[0],
        choices=Words((*WORDS, "overall>=X")),
        metavar="TARGET",
        help="what is made as good as can be: the mean of the worst tenth of the classes (worst10), the worst class "
        "(worst), the mean of all (balanced), or the worst tenth of what keeps an overall accuracy (overall>=0.8) "
        "(%(default)s)",
    )
    parser.add_argument("--out", dest="folder", type=Path, metavar="DIR", help="folder of the result (runs/auto-DATA)")
    parser.add_argument("--no-export", action="store_true", help="do not write model.onnx")
    options = [field.name for field in dataclasses.fields(DataOptions) if field.name != "val_share"]
    add_options(parser, [*DATA, "model", "pretrained", *options])


def run(arguments: argparse.Namespace) -> None:
    """Chooses, prints, exports and writes the page."""
    from car_ext.automatic import auto
    from car_ext.automatic.auto import WEIGHTS
    from car_ext.cli.flags import given_options
    from car_ext.config.recipe import build_job

    options = given_options(arguments)
    config = build_job({"pretrained": "timm", "model": WEIGHTS} | options)

    from car_ext import report
    from car_ext.cli.tables import print_summary
    from car_ext.export import to_onnx
    from car_ext.run.folder import RunFolder
    from car_ext.text import printable

    outcome = auto(config, hours=arguments.hours, target=arguments.target, out=arguments.folder)
    for sentence in (*outcome.facts["sentences"], *(f"note: {note}" for note in outcome.facts["notes"])):
        print(printable(sentence))
    summary = RunFolder(outcome.folder).read_summary()
    assert summary is not None, "a finished choice has one"
    print_summary({"auto": summary})
    report.write_choice(outcome.facts, outcome.folder / "auto.html")
    report.write([outcome.folder], outcome.folder / "report.html")
    written = ["auto.html (what was tried)", "report.html (the scores)"]
    if not arguments.no_export:
        written.insert(0, str(to_onnx(outcome.folder).name))
    print(f"written to {outcome.folder}: {', '.join(written)}")
