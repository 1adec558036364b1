"""The flags of a training job, one for each option."""

import argparse
import typing
from collections.abc import Iterable, Sequence
from pathlib import Path

from car_ext.cli.parser import Parser, Words
from car_ext.config import yaml_file
from car_ext.config.config import OPTIONS, Config
from car_ext.config.recipe import build_job, for_data, recipe_options
from car_ext.datasets.notes import tell
from car_ext.methods import registry
from car_ext.option import field_value, help_text, kind
from car_ext.recipes import RECIPES

FINETUNE = "finetune"  # the recipe for pretrained weights
_METAVAR = {int: "N", float: "X", str: "NAME"}
_METHODS = {"loss": "loss", "retrain": "stage2"} | {
    key: key for key in ("regularizer", "head", "sampler", "mix", "contrast")
}  # option -> kind of method


def parse(argv: Sequence[str] | None = None, *, recipes: Path = RECIPES) -> Config:
    """A command line of a job's flags alone, as a `Config`.

    Args:
        argv: `sys.argv[1:]` by default.
        recipes: as of `job`.

    Raises:
        InputError: any mistake.
    """
    parser = Parser()
    add_job(parser)
    return job(parser.parse_args(argv), recipes=recipes)


def add_job(parser: argparse.ArgumentParser) -> None:
    """Adds `--config` and a flag for each option, in groups; `job` makes a `Config` of what they were given."""
    parser.add_argument(
        "--config", metavar="FILE", choices=names(RECIPES), help="YAML file or recipe name that sets defaults"
    )
    add_options(parser, OPTIONS)


def add_options(parser: argparse.ArgumentParser, keys: Iterable[str]) -> None:
    """Adds a flag for each of some options, in groups."""
    groups: dict[str, typing.Any] = {}
    for key in keys:
        field = OPTIONS[key]
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        help = help_text(field).replace("%", "%%")
        if field.default is not None:
            help += f" (default: {str(field.default).lower() if kind(field) is bool else field.default})"
        # What was not given is not there, so that a recipe can say it.
        common = {"dest": key, "default": argparse.SUPPRESS, "help": help}
        if kind(field) is bool:
            groups[name].add_argument(_flag(key), action=argparse.BooleanOptionalAction, **common)
        elif field.metadata["alone"]:
            groups[name].add_argument(_flag(key), nargs="?", const="true", metavar="FILE", **common)
            no = {**common, "help": argparse.SUPPRESS}
            groups[name].add_argument(_flag(f"no-{key}"), action="store_const", const="false", **no)
        else:
            choices = field.metadata["choices"]
            metavar = f"{{{','.join(choices)}}}" if choices else _METAVAR[kind(field)]
            words = Words(choices or registry.methods(_METHODS.get(key, "")))
            groups[name].add_argument(_flag(key), metavar=metavar, choices=words or None, **common)
        if key == "tune":
            same = {**common, "help": "the same as --tune head"}
            groups[name].add_argument("--freeze", action="store_const", const="head", **same)


def job(arguments: argparse.Namespace, *, recipes: Path = RECIPES) -> Config:
    """The job that the flags of `add_job`, or of `add_options`, describe.

    `--config FILE.yaml` sets defaults that the other flags override; a bare name means `NAME.yaml` in `recipes`. Where
    `--data` is not the data set that the recipe names, the recipe does not cut it, see `recipe.for_data`.
    `base: [other, parts/another]` in such a file names files beside it whose options come before its own. Without
    `--config` pretrained weights bring the options of the recipe `finetune`, which is told.

    Args:
        arguments: parsed; others among them are left alone.
        recipes: folder of the recipes with a name.

    Raises:
        InputError: a value of another type or out of its limits, no such file, or options that contradict each other.
    """
    given = given_options(arguments)
    name = getattr(arguments, "config", None)
    if name is None and given.get("pretrained") and not given.get("stage2"):
        name, recipes = FINETUNE, RECIPES
        tell(f"--pretrained: options that are not given are those of --config {name}")
    options = recipe_options(yaml_file.find(name, recipes, "--config")) if name else {}
    return build_job(for_data(options, given.get("data", options.get("data"))) | given)


def given_options(arguments: argparse.Namespace) -> dict[str, typing.Any]:
    """The options that flags were given for, by key.

    Raises:
        InputError: a value of another type or out of its limits.
    """
    flags = {key: value for key, value in vars(arguments).items() if key in OPTIONS}
    return {key: field_value(OPTIONS[key], value, _flag(key)) for key, value in flags.items()}


def names(folder: Path) -> Words:
    """What the YAML files of a folder are called on the command line."""
    return Words(sorted(path.stem for path in folder.glob("*.yaml")))


def _flag(key: str) -> str:
    return "--" + key.replace(".", "-").replace("_", "-")
