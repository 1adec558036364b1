"""Look at a data set before training: classes, splits, unreadable files, copies across splits, and what follows."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_ext.cli.parser import OutputFile, Parser
from car_ext.errors import InputError

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
  %(prog)s --clear-cache
      removes the images that trainings and evaluations have kept decoded on disk
"""
THUMBNAIL = 64  # pixels
PICTURED = 60  # groups of copies with pictures, and of images that look alike
PICTURES = 6  # of a group


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    import dataclasses

    from car_ext.cli.flags import add_options
    from car_ext.datasets import DataOptions

    parser.add_argument("data", metavar="PATH", nargs="?", help="as --data in training")
    parser.add_argument("--clear-cache", action="store_true", help="remove all decoded images of --cache-dir")
    parser.add_argument("--json", metavar="FILE", action=OutputFile, help="write all that is found here")
    parser.add_argument("--html", metavar="FILE", action=OutputFile, help="write a page with pictures here")
    add_options(parser, ["imbalance_ratio", *(field.name for field in dataclasses.fields(DataOptions))])


def run(arguments: argparse.Namespace) -> None:
    """Looks, prints and writes."""
    from car_ext.cli.flags import job
    from car_ext.cli.survey import print_survey
    from car_ext.datasets import list_data
    from car_ext.datasets.cache import source_path
    from car_ext.datasets.cache_folder import find_folder, state
    from car_ext.datasets.survey import survey
    from car_ext.files import write_json

    folder = find_folder(getattr(arguments, "cache_dir", "auto"))  # flags that are not given are not there
    if arguments.clear_cache:
        _clear(folder)
        if arguments.data is None:
            return
    if arguments.data is None:
        raise InputError("there is nothing to look at: give PATH, or --clear-cache")
    config = job(arguments)
    data = list_data(config.data, THUMBNAIL, config.imbalance_ratio, options=config.data_options)
    facts = {**survey(data), "cache": state(folder, source_path(data.train.images))}
    print_survey(facts)
    if arguments.json:
        write_json(arguments.json, facts)
    if arguments.html:
        from car_ext.report import write_survey

        write_survey(facts, _pictures(data, facts), arguments.html)
        print(f"page written to {arguments.html}")


def _clear(folder: Path | None) -> None:
    from car_ext.datasets.cache_folder import clear
    from car_ext.text import gigabytes

    if folder is None:
        raise InputError("--clear-cache and --cache-dir none contradict each other: name the folder, or leave it out")
    files, size = clear(folder)
    print(f"{files:,} {'file' if files == 1 else 'files'} of decoded images ({gigabytes(size)}) removed from {folder}")


def _pictures(data: "LongTailedData", facts: dict[str, Any]) -> dict[tuple[str, int], Any]:
    """The first images of the first groups, by split and position, each (64, 64, C) uint8."""
    found = {}
    for group in (*facts["copies"][:PICTURED], *facts["near"][:PICTURED]):
        for image in group["images"][:PICTURES]:
            try:
                found[image["split"], image["position"]] = getattr(data, image["split"]).images[image["position"]]
            except InputError:  # copies of a damaged file, which are listed
                continue
    return found
