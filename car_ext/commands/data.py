"""Look at a data set before training: classes, splits, unreadable files, copies across splits, and what follows."""

import argparse
from typing import TYPE_CHECKING, Any

from car_ext.cli.parser import OutputFile, Parser

if TYPE_CHECKING:
    from car_ext.datasets import LongTailedData

EXAMPLES = """\
examples:
  %(prog)s photos/
      photos/CLASS/*.jpg, of which training would hold a fifth out, or photos/train/, val/ and test/
  %(prog)s photos/ --groups '(patient[0-9]+)' --html data.html
      whether patients are kept apart, and a page with the copies that are found
  %(prog)s mine.csv --data-root photos/ --json data.json
      a list, and everything that is found for a program
"""
THUMBNAIL = 64  # pixels
PICTURED = 60  # groups of copies with pictures, and of images that look alike
PICTURES = 6  # of a group


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    import dataclasses

    from car_ext.cli.flags import add_options
    from car_ext.datasets import DataOptions

    parser.add_argument("data", metavar="PATH", help="as --data in training")
    parser.add_argument("--json", metavar="FILE", action=OutputFile, help="write all that is found here")
    parser.add_argument("--html", metavar="FILE", action=OutputFile, help="write a page with pictures here")
    add_options(parser, ["imbalance_ratio", *(field.name for field in dataclasses.fields(DataOptions))])


def run(arguments: argparse.Namespace) -> None:
    """Looks, prints and writes."""
    from car_ext.cli.flags import job
    from car_ext.cli.survey import print_survey
    from car_ext.datasets import list_data
    from car_ext.datasets.survey import survey
    from car_ext.files import write_json

    config = job(arguments)
    data = list_data(config.data, THUMBNAIL, config.imbalance_ratio, options=config.data_options)
    facts = survey(data)
    print_survey(facts)
    if arguments.json:
        write_json(arguments.json, facts)
    if arguments.html:
        from car_ext.report import write_survey

        write_survey(facts, _pictures(data, facts), arguments.html)
        print(f"page written to {arguments.html}")


def _pictures(data: "LongTailedData", facts: dict[str, Any]) -> dict[tuple[str, int], Any]:
    """The first images of the first groups, by split and position, each (64, 64, C) uint8."""
    from car_ext.errors import InputError

    found = {}
    for group in (*facts["copies"][:PICTURED], *facts["near"][:PICTURED]):
        for image in group["images"][:PICTURES]:
            try:
                found[image["split"], image["position"]] = getattr(data, image["split"]).images[image["position"]]
            except InputError:  # copies of a damaged file, which are listed
                continue
    return found
