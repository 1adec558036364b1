#!/usr/bin/env python
"""Train by several methods, side by side: with and without the regularizer, or all that a file lists."""

import argparse
import dataclasses
import sys
from pathlib import Path

from car_ext import report
from car_ext.cli import exits
from car_ext.cli import tables as cli
from car_ext.cli.flags import parse
from car_ext.files import write_json, write_text
from car_ext.studies.comparison import compare, read_methods, with_and_without
from car_ext.studies.picture import draw
from car_ext.studies.table import markdown, table, worst_first

HERE = Path(__file__).parent
EXAMPLES = """\
Takes every option of train/run.py as well (python train/run.py --help).

examples:
  python train/compare.py
      the built-in digits, four seeds: cross-entropy, and cross-entropy with CAR; under a minute on two cores
  python train/compare.py --data photos/ --model resnet18 --epochs 60 --seeds 0 1 2 --compare-out runs/photos
      your own images; run it again after an interruption and it goes on
  python train/compare.py --methods field --data photos/ --model resnet18 --seeds 0 1
      the methods of train/methods/field.yaml, or of a file of your own: name: {options of train/run.py}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2, 3], metavar="N", help="(0 1 2 3)")
    parser.add_argument("--compare-out", type=Path, metavar="DIR", help="folder of the runs (runs/compare-DATA-MODEL)")
    parser.add_argument("--methods", metavar="FILE", help="YAML file or name in train/methods: several methods")
    own, options = parser.parse_known_args()
    config = parse(options, recipes=HERE / "recipes")
    out = own.compare_out or Path("runs") / f"compare-{Path(config.data).stem}-{config.model}"
    if own.methods:
        methods, exported = read_methods(own.methods, HERE / "methods"), []
    else:
        methods = with_and_without(config)
        exported = [list(methods)[-1]]
    results = compare(config, methods, own.seeds, out, exported=exported)
    rows = table(results)
    cli.print_summary(results, title=f"{config.data}, mean ± standard deviation of {len(own.seeds)} seed(s)")
    write_json(out / "comparison.json", rows)
    write_text(out / "comparison.md", markdown(worst_first(rows) if own.methods else rows))
    draw(results, out / "comparison.png")
    # Of more than eight methods, the first, which the others are compared to, and the best.
    ranked = [row["method"] for row in worst_first(rows) if row["method"] in methods]
    shown = list(dict.fromkeys([next(iter(methods)), *ranked]))[:8]
    runs = [report.Run.read(out / f"{name}-seed{own.seeds[0]}") for name in shown]
    report.write(
        [dataclasses.replace(run, name=name) for name, run in zip(shown, runs, strict=True)], out / "report.html"
    )
    print(f"written to {out}: report.html (of seed {own.seeds[0]}), comparison.json, comparison.md, comparison.png,")
    print("and a folder for each run")


if __name__ == "__main__":
    sys.exit(exits.run(main))
