"""One HTML file about one or several runs, the first compared to."""

import argparse
from pathlib import Path

from car_ext.cli.parser import Parser

EXAMPLES = """\
examples:
  %(prog)s runs/A runs/B --out report.html
      the differences of B to A, class by class
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN", help="--out folder of a finished training run")
    parser.add_argument("--out", type=Path, default=Path("report.html"), metavar="FILE.html", help="(%(default)s)")


def run(arguments: argparse.Namespace) -> None:
    """Writes the page."""
    from car_ext import report

    report.write(arguments.runs, arguments.out)
    print(f"written to {arguments.out}")
