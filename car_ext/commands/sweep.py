"""Train many settings of one job over several seeds, all of a grid or those a search proposes, and list them."""

import argparse
from pathlib import Path

from car_ext.cli.parser import Number, Parser

EXAMPLES = """\
Run it again after an interruption and it goes on. Needs Optuna: pip install 'car-ext[sweep]', '.[sweep]' in a clone.

examples:
  %(prog)s --space car_alpha
      how strong CAR should be on the built-in digits; the file comes with car-ext, or is one of your own
  %(prog)s --space car_ablation --config cifar10_lt --data-root DIR --seeds 0 1 2
      what each part of CAR does
  %(prog)s --space mine.yaml --data photos/ --holdout 0.2 --score balanced_accuracy --trials 50
      choose by images held out from training, not by the test set
  %(prog)s --space mine.yaml --data photos/ --storage postgresql://user@host/sweeps
      the same command on many machines: they share the work
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.cli.flags import add_job, names
    from car_ext.metrics.vocabulary import SMOOTHED, objectives
    from car_ext.recipes import SWEEPS
    from car_ext.studies.space import SEARCHES

    parser.add_argument(
        "--space",
        required=True,
        metavar="FILE",
        choices=names(SWEEPS),
        help="YAML file, or a name, such as car_alpha: what to vary",
    )
    parser.add_argument(
        "--search", choices=SEARCHES, help="all combinations, or Optuna's TPE (grid if space is finite)"
    )
    parser.add_argument("--trials", action=Number, default=20, metavar="N", help="of tpe, earlier ones included (20)")
    parser.add_argument(
        "--seeds", action=Number, nargs="+", default=[0, 1, 2], metavar="N", help="of each trial (0 1 2)"
    )
    parser.add_argument(
        "--score",
        choices=objectives(),
        default=SMOOTHED.key,
        help="what to search by (%(default)s: the worst tenth of the classes, which tells settings apart whose worst "
        "classes are all at 0; images of all seeds counted together, of the others the mean)",
    )
    parser.add_argument(
        "--prune", action=argparse.BooleanOptionalAction, help="stop trials below the median (with tpe)"
    )
    parser.add_argument("--storage", metavar="URL", help="database for many machines (an SQLite file in --sweep-out)")
    parser.add_argument("--sweep-out", type=Path, metavar="DIR", help="folder (runs/sweep-SPACE-DATA-MODEL)")
    add_job(parser)


def run(arguments: argparse.Namespace) -> None:
    """Trains the settings and prints their table."""
    from car_ext.cli.flags import job

    config = job(arguments)

    from car_ext.recipes import SWEEPS
    from car_ext.studies.space import Space
    from car_ext.studies.sweep import markdown, sweep

    space = Space.read(arguments.space, SWEEPS)
    name = f"sweep-{Path(arguments.space).stem}-{Path(config.data).stem}-{config.model_name}"
    out = arguments.sweep_out or Path("runs") / name
    table = sweep(
        config,
        space,
        out,
        search=arguments.search,
        trials=arguments.trials,
        seeds=arguments.seeds,
        score=arguments.score,
        prune=arguments.prune,
        storage=arguments.storage,
    )
    print(markdown(table))
    print(f"written to {out}: sweep.json, sweep.md, sweep.png, sweep.db, and a folder for each run")
