"""The flags of a command line, one for each option, as a job."""

import argparse
import typing
from collections.abc import Sequence
from pathlib import Path

from car_ext.config import yaml_file
from car_ext.config.config import OPTIONS, Config
from car_ext.config.recipe import build_job, recipe_options
from car_ext.errors import InputError, suggest
from car_ext.option import field_value, help_text, kind

_METAVAR = {int: "N", float: "X", str: "NAME"}


def parse(
    argv: Sequence[str] | None = None,
    *,
    recipes: Path | None = None,
    description: str = "",
    examples: str = "",
) -> Config:
    """Read a command line (default ``sys.argv[1:]``) into a :class:`Config`.

    ``--config FILE.yaml`` sets defaults that the other flags override; a bare name means
    ``recipes/NAME.yaml`` when ``recipes`` is given. ``base: [other, parts/another]`` in such a file names files beside
    it whose options come before its own. Every mistake raises :class:`InputError`.
    """
    parser = _parser(description, examples)
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = ["--config", "--help", *map(_flag, OPTIONS)]
        raise InputError(f"{unknown[0]} is not an option{suggest(unknown[0].split('=')[0], flags)}")
    given = vars(found)
    path = given.pop("config", None)
    options = recipe_options(yaml_file.find(path, recipes, "--config")) if path else {}
    options |= {key: field_value(OPTIONS[key], value, _flag(key)) for key, value in given.items()}
    return build_job(options)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise InputError(f"{message}; run with --help for the options.")


def _parser(description: str, examples: str) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        epilog=examples,
        allow_abbrev=False,  # a misspelt flag must not silently mean another one
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file or recipe name that sets defaults")
    groups: dict[str, typing.Any] = {}
    for key, field in OPTIONS.items():
        name = field.metadata["group"]
        if name not in groups:
            groups[name] = parser.add_argument_group(name)
        help = help_text(field).replace("%", "%%")
        if field.default is not None:
            help += f" (default: {str(field.default).lower() if kind(field) is bool else field.default})"
        if kind(field) is bool:
            groups[name].add_argument(_flag(key), dest=key, action=argparse.BooleanOptionalAction, help=help)
        else:
            choices = ",".join(field.metadata["choices"])
            metavar = f"{{{choices}}}" if choices else _METAVAR[kind(field)]
            groups[name].add_argument(_flag(key), dest=key, metavar=metavar, help=help)
    return parser


def _flag(key: str) -> str:
    return "--" + key.replace(".", "-").replace("_", "-")
