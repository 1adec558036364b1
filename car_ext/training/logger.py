"""A service that keeps the metrics of runs. Each is one file of `car_ext.training.loggers`, or of another package."""

import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

from car_ext.errors import InputError, suggest
from car_ext.files import write_text
from car_ext.plugins import Plugins
from car_ext.training.callbacks import Callback
from car_ext.values import distinct

PROJECT = "car-ext"  # of a service's projects, where its environment names none


@dataclass(frozen=True)
class Logger:
    """How a run reaches a service.

    Attributes:
        name: what `--log` calls it.
        build: a callback of one run. It imports what it needs, and raises `InputError` where that is missing.
    """

    name: str
    build: Callable[[], Callback]


LOGGERS: Plugins[Logger] = Plugins("car_ext.training.loggers", "LOGGER", "car_ext.loggers")


def loggers(names: Iterable[str]) -> list[Callback]:
    """A callback for each name.

    Raises:
        InputError: an unknown name, one given twice, or a service whose package is not installed.
    """
    names, known = [*names], LOGGERS.known()
    for name in names:
        if name not in known:
            raise InputError(f"--log {name} is no logger{suggest(name, known)}")
    if names:
        distinct(names, "--log")
    return [known[name].build() for name in names]


def needed(package: str) -> ModuleType:
    """A service's package.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module(package)
    except ImportError as error:
        raise InputError(f"--log {package} needs {package} ({error}): pip install 'car-ext[{package}]'.") from error


def remembered(run_dir: Path, service: str, begin: Callable[[], str]) -> tuple[str, bool]:
    """What the service calls the run, and whether it was begun before: it is kept in the run's folder, for a resume."""
    path = run_dir / f"{service}.id"
    if path.exists():
        return path.read_text(encoding="utf-8").strip(), True
    name = begin()
    write_text(path, name + "\n")
    return name, False
