"""One HTML file about a deployed model over time."""

import argparse
from pathlib import Path

from car_ext.cli.parser import Parser

EXAMPLES = """\
examples:
  %(prog)s monitor.jsonl --out monitor.html
      accuracies where labels exist, confidence, and whether frequent classes swallow rare ones
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("log", type=Path, metavar="LOG.jsonl", help="--log file of examples/monitor.py")
    parser.add_argument("--out", type=Path, default=Path("monitor.html"), metavar="FILE.html", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    from car_ext import report

    report.write_monitoring(arguments.log, arguments.out)
    print(f"written to {arguments.out}")
