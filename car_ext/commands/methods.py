"""List every method: options, formula, source, published number."""

import argparse
from pathlib import Path

from car_ext.cli.parser import Parser

EXAMPLES = """\
examples:
  %(prog)s
      every loss, regularizer, head, sampler, mix and second stage, in Markdown
  %(prog)s --write docs/methods.md
      the same behind the introduction of a file
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    parser.add_argument("--write", type=Path, metavar="FILE.md", help="write the table behind the file's introduction")


def run(arguments: argparse.Namespace) -> None:
    """Prints or writes the table."""
    from car_ext.methods import table

    if arguments.write is None:
        print(table.markdown())
        return
    introduction, _, _ = arguments.write.read_text(encoding="utf-8").partition("\n## ")
    arguments.write.write_text(introduction + "\n" + table.markdown(), encoding="utf-8")
