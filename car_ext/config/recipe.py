"""Recipes: YAML files of options, each over those of the files it is made of; and a second stage over its first."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config import yaml_file
from car_ext.config.config import Config, option_values
from car_ext.datasets import NAMES
from car_ext.datasets.notes import tell
from car_ext.errors import InputError, suggest
from car_ext.methods import registry

CUT = ("imbalance_ratio", "profile", "selection", "selection_seed")  # options that cut a training set


def read_recipe(path: Path) -> Config:
    """Read a file such as the `config.yaml` of a run.

    Raises:
        InputError: a file that is no recipe; it names the file.
    """
    return Config.from_options(recipe_options(path))


def recipe_options(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The options of the files that its `base` names, in that order, then its own; by key, such as `car.alpha`.

    `above` are the files on the way here, which it must not name again.

    Raises:
        InputError: as `read_recipe`.
    """
    chain = (*above, path.resolve())
    if chain[-1] in above:
        names = " -> ".join(file.stem for file in chain[above.index(chain[-1]) :])
        raise InputError(f"{path} is a base of itself ({names}); take one of these bases out.")
    content = yaml_file.read(path)
    options: dict[str, Any] = {}
    bases = content.pop("base", [])
    if not isinstance(bases, list):
        raise InputError(f"base of {path} is {bases!r}, but must be a list of recipes, such as [cifar10_lt].")
    for name in bases:
        options |= recipe_options(_base(str(name), path), chain)
    return options | option_values(content, str(path))


def for_data(options: Mapping[str, Any], data: Any) -> dict[str, Any]:
    """The options of a recipe where `data` takes the place of the data it names.

    How a recipe cuts a data set with a name says nothing of other data, whose images are all used then; that is told.
    """
    named = options.get("data")
    if named not in NAMES or data == named:
        return dict(options)
    if ratio := options.get("imbalance_ratio"):
        tell(
            f"the recipe cuts {named} to an imbalance ratio of {ratio:g}; {data} is other data, of which all images "
            "are used (--imbalance-ratio cuts them)"
        )
    return {key: value for key, value in options.items() if key not in CUT}


def _base(name: str, path: Path) -> Path:
    """The file that `base` of `path` calls `name`: its path from there, without .yaml."""
    base = path.parent / f"{name}.yaml"
    if not base.is_file():
        known = sorted(str(Path(name).parent / file.stem) for file in base.parent.glob("*.yaml") if file != path)
        raise InputError(f"base of {path} names {name}, but there is no {base}{suggest(name, known)}")
    return base


def second_stage(run_dir: Path, values: Mapping[str, Any], where: str) -> Config:
    """The job that trains a new head on the run in `run_dir`, with `values` over what it takes over.

    Raises:
        InputError: as `Config.from_dict`; it names `where`, or the run's file.
    """
    return build_job(option_values({**values, "stage2": str(run_dir)}, where))


def build_job(options: Mapping[str, Any]) -> Config:
    """The job of these options by key; one with `stage2` takes over what they leave open from the run it names."""
    return Config.from_options({**_first_stage(options), **options})


def _first_stage(options: Mapping[str, Any]) -> dict[str, Any]:
    """What a second stage takes over: the options of the first, then those that its name stands for."""
    if not options.get("stage2"):
        return {}
    taken = recipe_options(Path(options["stage2"]) / "config.yaml")
    for own in ("out", "resume", "stage2", "retrain", "bn", "drw_epoch", "contrast", "tune"):
        taken.pop(own, None)
    if name := options.get("retrain"):
        method, _ = registry.parse("stage2", name)
        taken |= method.build()
    return taken
