#!/usr/bin/env python
"""Train many settings of one job over several seeds, all of a grid or those a search proposes, and list them."""

import argparse
import sys
from pathlib import Path

from car_ext.cli import exits
from car_ext.cli.flags import parse
from car_ext.studies.space import Space
from car_ext.studies.sweep import SEARCHES, epoch_keys, markdown, sweep

HERE = Path(__file__).parent
EXAMPLES = """\
Takes every option of train/run.py as well (python train/run.py --help). Run it again after an interruption and it goes
on. Needs Optuna: pip install '.[sweep]'.

examples:
  python train/sweep.py --space car_alpha
      how strong CAR should be on the built-in digits; the file is train/sweeps/car_alpha.yaml, or one of your own
  python train/sweep.py --space car_ablation --config cifar10_lt --data cifar10.zip --seeds 0 1 2
      what each part of CAR does
  python train/sweep.py --space mine.yaml --data photos/ --holdout 0.2 --score balanced_accuracy --trials 50
      choose by images held out from training, not by the test set
  python train/sweep.py --space mine.yaml --data photos/ --storage postgresql://user@host/sweeps
      the same command on many machines: they share the work
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--space", required=True, metavar="FILE", help="YAML file or name in train/sweeps: what to vary"
    )
    parser.add_argument(
        "--search", choices=SEARCHES, help="all combinations, or Optuna's TPE (grid if space is finite)"
    )
    parser.add_argument("--trials", type=int, default=20, metavar="N", help="of tpe, earlier ones included (20)")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2], metavar="N", help="of each trial (0 1 2)")
    parser.add_argument("--score", choices=epoch_keys(), default="worst_class_accuracy", help="(worst_class_accuracy)")
    parser.add_argument(
        "--prune", action=argparse.BooleanOptionalAction, help="stop trials below the median (with tpe)"
    )
    parser.add_argument("--storage", metavar="URL", help="database for many machines (an SQLite file in --sweep-out)")
    parser.add_argument("--sweep-out", type=Path, metavar="DIR", help="folder (runs/sweep-SPACE-DATA-MODEL)")
    own, options = parser.parse_known_args()
    config = parse(options, recipes=HERE / "recipes")
    out = own.sweep_out or Path("runs") / f"sweep-{Path(own.space).stem}-{Path(config.data).stem}-{config.model}"
    table = sweep(
        config,
        Space.read(own.space, HERE / "sweeps"),
        out,
        search=own.search,
        trials=own.trials,
        seeds=own.seeds,
        score=own.score,
        prune=own.prune,
        storage=own.storage,
    )
    print(markdown(table))
    print(f"written to {out}: sweep.json, sweep.md, sweep.png, sweep.db, and a folder for each run")


if __name__ == "__main__":
    sys.exit(exits.run(main))
