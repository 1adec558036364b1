#!/usr/bin/env python
"""Train an image classifier on long-tailed data, with or without CAR, and score its worst class."""

import sys
from pathlib import Path

from car_ext import cli, report
from car_ext.config import parse
from car_ext.engine import train

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
  python train/run.py --config runs/NAME/config.yaml --resume
      go on with a run that was interrupted, to the very same result
"""


def main() -> None:
    config = parse(recipes=Path(__file__).parent / "recipes", description=__doc__, examples=EXAMPLES)
    summary = train(config)
    report.write([config.run_dir], config.run_dir / "report.html")
    cli.print_summary({config.method: summary})
    print(f"{summary['parameters']:,} parameters, {summary['epochs']} epochs, {summary['seconds']:.1f} s")
    print(f"written to {config.run_dir}: report.html, summary.json, metrics.jsonl, checkpoint-*/, tensorboard/")


if __name__ == "__main__":
    sys.exit(cli.run(main))
