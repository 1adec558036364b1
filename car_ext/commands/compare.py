"""Train by several methods, side by side: the class prior and CAR, a method with and without CAR, or all of a file."""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path

from car_ext.cli.parser import Number, Parser

EXAMPLES = """\
examples:
  %(prog)s
      the built-in digits, three seeds: cross-entropy, balanced softmax, and CAR beside each; about a minute
  %(prog)s --data photos/ --model resnet18 --epochs 60 --seeds 0 1 2 --compare-out runs/photos
      your own images; run it again after an interruption and it goes on
  %(prog)s --loss logit_adjusted:tau=1.5 --regularizer car:prior=1
      a loss of your choice with and without CAR
  %(prog)s --methods field --data photos/ --model resnet18 --seeds 0 1
      the field's methods, which come with car-ext, or those of a file of your own: name: {options of the job}
  %(prog)s --methods field --data photos/ --seeds 0 1 2 --compare-out /shared/field
      the same command on as many machines as share the disk: each run is trained by the first to come by, and resumed
      by another where one is killed; whoever finishes the last one writes the table
  %(prog)s --methods field --data photos/ --seeds 0 1 2 --storage postgresql://user@host/studies
      the same on machines without a common disk
"""
SHOWN = 8  # methods in one report


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.cli.flags import add_job, names
    from car_ext.recipes import METHODS

    parser.add_argument("--seeds", action=Number, nargs="+", default=[0, 1, 2], metavar="N", help="(0 1 2)")
    parser.add_argument(
        "--compare-out",
        type=Path,
        metavar="DIR",
        help="folder of the runs (runs/compare-DATA-MODEL); on a disk of many machines, whose "
        "locks hold for all of them (NFSv4, Lustre with flock), they share the work",
    )
    parser.add_argument(
        "--methods",
        metavar="FILE",
        choices=names(METHODS),
        help="YAML file, or a name, such as field: several methods; by default cross-entropy, balanced softmax and CAR "
        "beside each (basics), or another --loss, or a --regularizer, with and without CAR",
    )
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where machines without a common disk meet: postgresql://USER@HOST/DATABASE or another database of "
        "SQLAlchemy's; the last part of --compare-out is the name by which they find it; needs the extra sweep",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="where several processes share the work: stay until the others have finished too, and resume what a "
        "killed one leaves (a process that finds nothing left says what the others are at, and ends)",
    )
    add_job(parser)


def run(arguments: argparse.Namespace) -> None:
    """Trains all, and writes the table, the picture and the report."""
    from car_ext.cli.flags import job

    config = job(arguments)

    from car_ext.cli.tables import print_summary
    from car_ext.files import write_json, write_text
    from car_ext.studies.apart import compare_apart
    from car_ext.studies.comparison import compare, methods_of, share
    from car_ext.studies.picture import draw
    from car_ext.studies.table import markdown, table, worst_first

    seeds = arguments.seeds
    out = arguments.compare_out or Path("runs") / f"compare-{Path(config.data).stem}-{config.model_name}"
    methods = methods_of(config, arguments.methods)
    exported = [] if arguments.methods else [list(methods)[-1]]
    if arguments.storage:
        results, taken = compare_apart(
            config, methods, seeds, out, arguments.storage, exported=exported, wait=arguments.wait
        )
    else:
        results, taken = {}, share(config, methods, seeds, out, wait=arguments.wait)
    if taken:
        print("nothing left to do here; others are at work, and whoever ends last writes the table:")
        print(*(f"- {run}" for run in taken), sep="\n")
        return
    results = results or compare(config, methods, seeds, out, exported=exported)
    rows = table(results)
    print_summary(results, title=f"{config.data}, mean ± standard deviation of {len(seeds)} seed(s)")
    write_json(out / "comparison.json", rows)
    write_text(out / "comparison.md", markdown(worst_first(rows) if arguments.methods else rows))
    draw(results, out / "comparison.png")
    ranked = [row["method"] for row in worst_first(rows) if row["method"] in methods]
    # The first, which the others are compared to, and the best; of other machines only the summaries are here.
    shown = list(dict.fromkeys([next(iter(methods)), *ranked]))
    here = [name for name in shown if (out / f"{name}-seed{seeds[0]}" / "summary.json").exists()][:SHOWN]
    if here:
        _write_report(here, seeds[0], out)
    if missing := [name for name in shown if name not in here][: SHOWN - len(here)]:
        print(f"the report is without {', '.join(missing)}, whose runs of seed {seeds[0]} are on other machines")
    print(f"written to {out}: report.html (of seed {seeds[0]}), comparison.json, comparison.md, comparison.png,")
    print("and a folder for each run that was trained here")


def _write_report(methods: Sequence[str], seed: int, out: Path) -> None:
    from car_ext import report

    runs = [dataclasses.replace(report.Run.read(out / f"{name}-seed{seed}"), name=name) for name in methods]
    report.write(runs, out / "report.html")
