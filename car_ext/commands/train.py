"""Train an image classifier on long-tailed data, with or without CAR, and score its worst class."""

import argparse

from car_ext.cli.parser import Parser, Words

EXAMPLES = """\
examples:
  %(prog)s
      the built-in long-tailed digits, plain cross-entropy, about two seconds
  %(prog)s --regularizer car
      the same with CAR; compare the worst class (car-ext compare does it over seeds)
  %(prog)s --data photos/ --pretrained --freeze --img-size 128
      your own images: photos/CLASS/*.jpg, of which a fifth is held out as the test set, or with train/, val/ and test/;
      a classifier with the class prior on published features; without --freeze the whole network is trained
  %(prog)s --data photos/ --img-size 64 --model resnet18 --loss balanced_softmax --val-share 0.15 --patience 5
      from scratch, until validation images say enough
  %(prog)s --config cifar10_lt --data-root DIR --seed 1
      a recipe by its name; flags override it
  %(prog)s --config imagenet_lt_vit_s_car --dry-run
      what it would be: classes, steps, learning rates, parameters, time, memory; nothing is written
  %(prog)s --config runs/NAME/config.yaml --resume
      go on with a run that was interrupted, to the very same result
  %(prog)s --log wandb mlflow
      the metrics of every epoch there as well
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.cli.flags import add_job
    from car_ext.training.logger import LOGGERS

    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print what the job would be, with the time and memory of three steps; nothing is written",
    )
    parser.add_argument(
        "--log",
        nargs="+",
        default=(),
        metavar="LOGGER",
        choices=Words(LOGGERS.known()),
        help=f"send the metrics there as well: {', '.join(LOGGERS.known())}, each set up by its own environment, such "
        "as WANDB_MODE=offline; TensorBoard's events are always written",
    )
    add_job(parser)


def run(arguments: argparse.Namespace) -> None:
    """Trains, or prints the plan of it."""
    from car_ext.cli.flags import job
    from car_ext.machine.processes import leads, refuse_many

    config = job(arguments)
    if arguments.dry_run:
        refuse_many("a dry run")
        from car_ext.training.plan import plan
        from car_ext.training.rehearsal import rehearse

        planned = plan(config)
        print(planned, flush=True)
        print(rehearse(planned))
        return

    from car_ext import report
    from car_ext.cli.tables import print_summary
    from car_ext.training.logger import loggers
    from car_ext.training.train import train

    summary = train(config, callbacks=loggers(arguments.log))
    if not leads():
        return
    report.write([config.run_dir], config.run_dir / "report.html")
    print_summary({config.method: summary})
    kept = f" (kept: {summary['kept_epoch']})" if "kept_epoch" in summary else ""
    print(f"{summary['parameters']:,} parameters, {summary['epochs']} epochs{kept}, {summary['seconds']:.1f} s")
    print(f"written to {config.run_dir}: report.html, summary.json, predictions.parquet, metrics.jsonl, checkpoint-*/")
