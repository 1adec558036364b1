"""The program `car-ext`, and each of its commands as a program of its own."""

import argparse
import sys
from collections.abc import Sequence
from types import ModuleType
from typing import Any

import car_ext
from car_ext.cli import exits
from car_ext.cli.parser import Parser
from car_ext.commands import auto, compare, data, evaluate, export, info, labels, methods, monitor, report, sweep, train

COMMANDS: dict[str, ModuleType] = {
    "auto": auto,
    "data": data,
    "train": train,
    "compare": compare,
    "sweep": sweep,
    "export": export,
    "evaluate": evaluate,
    "labels": labels,
    "report": report,
    "monitor": monitor,
    "methods": methods,
    "info": info,
}
DESCRIPTION = "Image classifiers that are good on their worst class: train, compare, export, evaluate, watch."
EXAMPLES = """\
examples:
  %(prog)s data photos/
      what is in a folder of images: classes, splits, unreadable files, copies, and what follows
  %(prog)s auto photos/ --hours 1
      the best worst class of a folder: what to train, and how, is chosen on its training images
  %(prog)s train --regularizer car
      the built-in long-tailed digits with CAR, about two seconds; the run is runs/digits-convnet-ce+car-seed0
  %(prog)s compare --data photos/ --model resnet18 --seeds 0 1
      your own images with and without CAR; photos/CLASS/*.jpg, of which a fifth is held out as the test set
  %(prog)s sweep --space car_alpha
      how strong CAR should be
  %(prog)s export RUN --formats fp32 int8
      ONNX files that carry their own preprocessing; RUN is the folder of a run
  %(prog)s evaluate RUN RUN/model.int8.onnx --data digits --gate worst=0.02
      both on the same test images; fails if the worst class lost more than 0.02
  %(prog)s labels RUN
      labels that are likely wrong, with their pictures
  %(prog)s report RUN OTHER-RUN
      one HTML page about both
  %(prog)s monitor monitor.jsonl
      one HTML page about a deployed model over time
  %(prog)s methods
      every loss, regularizer, head, sampler, mix and second stage
  %(prog)s info
      versions, what was built and what works here, for a bug report; without a command the same

%(prog)s COMMAND --help explains each.
"""


def main(prog: str = "car-ext") -> int:
    """Runs what `sys.argv` says; without a command, `info`.

    Args:
        prog: what the help calls the program.

    Returns:
        The exit code.

    Raises:
        InputError: a mistake on the command line, or anything wrong with what it names.
    """
    arguments = _parser(prog).parse_args()
    return COMMANDS[arguments.command or "info"].run(arguments) or 0


def car_ext_command() -> int:
    """The entry point of the installed command: `main` with its errors as exit codes."""
    return exits.run(main)


def alone(command: ModuleType, prog: str) -> int:
    """Runs one command as a program of its own, as `main`.

    Args:
        command: a module of this package.
        prog: what the help calls the program.
    """
    parser = Parser(prog=prog, description=command.__doc__, epilog=command.EXAMPLES, fill=command.add_options)
    return command.run(parser.parse_args()) or 0


def _parser(prog: str) -> Parser:
    parser = Parser(prog=prog, description=DESCRIPTION, epilog=EXAMPLES)
    parser.add_argument("--version", action="version", version=f"car-ext {car_ext.__version__}")
    info.add_options(parser)
    parser.add_argument("--print-completion", action=_Completion, choices=_SHELLS, help="print a script for the shell")
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND")
    for name, command in COMMANDS.items():
        does = str(command.__doc__)
        commands.add_parser(name, help=does, description=does, epilog=command.EXAMPLES, fill=command.add_options)
    return parser


_SHELLS = ("bash", "zsh", "tcsh")


class _Completion(argparse.Action):
    """Prints a script that teaches a shell the commands and their options."""

    def __call__(
        self,
        parser: argparse.ArgumentParser,
        namespace: argparse.Namespace,
        values: str | Sequence[Any] | None,
        option_string: str | None = None,
    ) -> None:
        import shtab

        (commands,) = (action for action in parser._actions if isinstance(action, argparse._SubParsersAction))
        for command in commands.choices.values():
            command.fill()
        parser.prog = "car-ext"  # `python -m` is no command that a shell could complete
        print(shtab.complete(parser, shell=str(values)))
        parser.exit()


if __name__ == "__main__":
    sys.exit(car_ext_command())
