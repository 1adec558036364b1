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
      the same command on as many machines as you like: they share the trials, and do again what a killed one leaves
  %(prog)s --space mine.yaml --data photos/ --storage journal:/shared/sweeps.log --sweep-out /shared/mine
      the same without a database, on a disk that all of them share: what was interrupted goes on from its checkpoint
  %(prog)s --space mine.yaml --data photos/ --storage postgresql://user@host/sweeps --show
      the table as it stands, while they work or afterwards
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
    parser.add_argument(
        "--trials", action=Number, default=20, metavar="N", help="of tpe, those of all workers and earlier calls (20)"
    )
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
    parser.add_argument(
        "--storage",
        metavar="URL",
        help="where many machines meet: postgresql://USER@HOST/DATABASE, another database of SQLAlchemy's, or "
        "journal:FILE on a disk they share, whose locks hold for all of them (NFSv4, Lustre with flock); a password is "
        "best left to ~/.pgpass (an SQLite file in --sweep-out)",
    )
    parser.add_argument(
        "--sweep-out",
        type=Path,
        metavar="DIR",
        help="folder of the runs; its last part is the name by which workers find the study "
        "(runs/sweep-SPACE-DATA-MODEL)",
    )
    parser.add_argument(
        "--wait",
        action="store_true",
        help="stay until the other workers have finished too, and do what a killed one leaves (a worker that finds "
        "nothing left says who is at work, and ends)",
    )
    parser.add_argument("--show", action="store_true", help="train nothing; print and draw what the storage holds")
    add_job(parser)


def run(arguments: argparse.Namespace) -> None:
    """Trains the settings and prints their table, or only prints it."""
    from car_ext.cli.flags import job

    config = job(arguments)

    from car_ext.recipes import SWEEPS
    from car_ext.studies.outcome import markdown
    from car_ext.studies.space import Space
    from car_ext.studies.storage import masked
    from car_ext.studies.sweep import show, sweep
    from car_ext.studies.work import DATABASE

    name = f"sweep-{Path(arguments.space).stem}-{Path(config.data).stem}-{config.model_name}"
    out, storage = arguments.sweep_out or Path("runs") / name, arguments.storage
    if arguments.show:
        table = show(out, storage)
    else:
        table = sweep(
            config,
            Space.read(arguments.space, SWEEPS),
            out,
            search=arguments.search,
            trials=arguments.trials,
            seeds=arguments.seeds,
            score=arguments.score,
            prune=arguments.prune,
            storage=storage,
            wait=arguments.wait,
        )
    print(markdown(table))
    print(f"written to {out}: sweep.json, sweep.md, sweep.png and, of trials that ran here, a folder for each run")
    print(f"the study lies in {masked(storage) if storage else out / DATABASE}")
    if table["unfinished"]:
        print(f"{table['unfinished']} not finished: --show tells later, and the same command again does what is left")
