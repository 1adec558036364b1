#!/usr/bin/env python
"""Train an image classifier on long-tailed data, with or without CAR, and score its worst class."""

import argparse
import sys
from pathlib import Path

from car_ext import report
from car_ext.cli import exits
from car_ext.cli import tables as cli
from car_ext.cli.flags import parse
from car_ext.training.plan import plan
from car_ext.training.train import train

EXAMPLES = """\
examples:
  python train/run.py
      the built-in long-tailed digits, plain cross-entropy, about two seconds
  python train/run.py --regularizer car
      the same with CAR; compare the worst class
  python train/run.py --data photos/ --img-size 64 --model resnet18 --regularizer car --car-absent hold
      your own images: photos/train/CLASS/*.jpg and photos/test/CLASS/*.jpg
  python train/run.py --config cifar10_lt --data cifar10.zip --seed 1
      a recipe of train/recipes; flags override it
  python train/run.py --config imagenet_lt_vit_s_car --dry-run
      what it would be: classes, steps, learning rates, parameters, memory; nothing is trained or written
  python train/run.py --config runs/NAME/config.yaml --resume
      go on with a run that was interrupted, to the very same result
"""


def main() -> None:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--dry-run", action="store_true")
    own, options = parser.parse_known_args()
    config = parse(options, recipes=Path(__file__).parent / "recipes", description=__doc__, examples=EXAMPLES)
    if own.dry_run:
        print(plan(config))
        return
    summary = train(config)
    report.write([config.run_dir], config.run_dir / "report.html")
    cli.print_summary({config.method: summary})
    print(f"{summary['parameters']:,} parameters, {summary['epochs']} epochs, {summary['seconds']:.1f} s")
    print(f"written to {config.run_dir}: report.html, summary.json, metrics.jsonl, checkpoint-*/, tensorboard/")


if __name__ == "__main__":
    sys.exit(exits.run(main))
