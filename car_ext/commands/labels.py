"""Find labels that are likely wrong, in images that a model was scored on, and list them with their pictures."""

import argparse
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from car_ext.cli.parser import Number, Parser

if TYPE_CHECKING:
    import numpy as np

EXAMPLES = """\
Needs cleanlab: pip install 'car-ext[labels]', '.[labels]' in a clone. Needs logits: train with --logits, or score with
car-ext evaluate --predictions FILE --logits. Searched are the images that the model was not trained on.

examples:
  %(prog)s runs/NAME
      the test images of a run, and its validation images: label_issues.csv and label_issues.html in its folder
  %(prog)s photos.parquet --data photos/ --out photos-labels
      what an evaluation wrote, with the pictures from a folder
  %(prog)s runs/A runs/B runs/C --out labels
      several runs over the same classes: of an image in several of them the mean probability counts
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.metrics.label_issues import CHOICES

    parser.add_argument(
        "predictions",
        type=Path,
        nargs="+",
        metavar="RUN",
        help="--out folder of a training run, or a file of predictions of car-ext evaluate",
    )
    parser.add_argument(
        "--filter-by",
        choices=CHOICES,
        default=CHOICES[0],
        help="how cleanlab chooses (%(default)s); predicted_neq_given takes every image whose class is not predicted, "
        "for models that are sure of everything",
    )
    parser.add_argument("--data", metavar="PATH", help="where the pictures are (default: the data of the first run)")
    parser.add_argument("--data-root", metavar="DIR", help="as in training")
    parser.add_argument("--label-column", metavar="NAME", help="as in training")
    parser.add_argument(
        "--out", type=Path, metavar="DIR", help="where label_issues.csv and .html go (default: by the first RUN)"
    )
    parser.add_argument(
        "--worst", action=Number, low=1, default=10, metavar="N", help="how many to print (%(default)s)"
    )


def run(arguments: argparse.Namespace) -> None:
    """Searches, prints and writes."""
    from car_ext import report
    from car_ext.cli.tables import print_label_issues
    from car_ext.metrics.label_issues import LabelIssues
    from car_ext.report.label_issues import PICTURES
    from car_ext.run.folder import RunFolder

    first: Path = arguments.predictions[0]
    paths = [RunFolder(path).predictions if path.is_dir() else path for path in arguments.predictions]
    issues = LabelIssues.find(paths, arguments.filter_by)
    images = _images(arguments, {issue.file for issue in issues.found[:PICTURES]})
    out = arguments.out or (first if first.is_dir() else first.parent)
    out.mkdir(parents=True, exist_ok=True)
    issues.write_csv(out / "label_issues.csv")
    report.write_label_issues(issues, images, first.name, out / "label_issues.html")
    print_label_issues(issues, arguments.worst)
    print(f"written to {out}: label_issues.csv, label_issues.html")


def _images(arguments: argparse.Namespace, names: Collection[str]) -> "dict[str, np.ndarray]":
    """The pictures of some images, from the data that are named, else from those of the first run, where they are."""
    from car_ext.config.config import Config
    from car_ext.datasets import DataOptions
    from car_ext.datasets.named import named_images
    from car_ext.datasets.notes import tell
    from car_ext.errors import InputError
    from car_ext.run.folder import RunFolder

    first: Path = arguments.predictions[0]
    if arguments.data:
        options = DataOptions(data_root=arguments.data_root, label_column=arguments.label_column)
        return named_images(arguments.data, names, options)
    if not first.is_dir():
        return {}
    config = Config.from_dict(RunFolder(first).read_config(), f"the config.yaml in {first}")
    try:
        return named_images(config.data, names, config.data_options)
    except InputError as error:
        tell(f"no pictures are shown, give --data: {error}")
        return {}
