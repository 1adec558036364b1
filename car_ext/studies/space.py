"""What a sweep may vary, from a small YAML file."""

import itertools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.config import yaml_file
from car_ext.config.config import Config, option_value
from car_ext.errors import InputError
from car_ext.values import convert

FIXED = ("out", "resume", "seed", "stage2", "retrain")  # set by the sweep, or with other options behind them
SEARCHES = ("grid", "tpe")  # all combinations of a space, or those that Optuna proposes


@dataclass(frozen=True)
class Range:
    """All numbers from `low` to `high`, whole ones if both are; `points` of them on a grid."""

    low: float
    high: float
    log: bool
    points: int | None

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)

    def grid(self, points: int) -> list[float]:
        numbers = (np.geomspace if self.log else np.linspace)(self.low, self.high, points).tolist()
        return sorted({round(number) if self.whole else float(f"{number:.6g}") for number in numbers})


@dataclass(frozen=True)
class Space:
    """The settings among which a sweep chooses.

    Attributes:
        options: option, such as `car.alpha`, to the list of its values or the range of them.
        cases: name to options that go together, and over the others; a trial takes one of them, if there are any.
        matched_strength: keep alpha times the mean class weight of CAR as the job has it, whatever r0 and variant make
            of the weights.
    """

    options: Mapping[str, Sequence[Any] | Range]
    cases: Mapping[str, Mapping[str, Any]]
    matched_strength: bool = False

    @classmethod
    def read(cls, name: str, folder: Path) -> "Space":
        """From a YAML file, by path or by its name in `folder`. Its lines are

            car.absent: [decay, hold]       each of these values
            car.alpha: [0.1, 5.0, log]      a range, on a logarithmic scale (linear: on a plain one)
            car.alpha: [0.1, 5.0, log, 6]   the same, and 6 values where a grid is asked for
            no-ema: {car: {beta: 0}}        a case: options that go together
            matched_strength: true          see above

        Raises:
            InputError: no such file, an unknown option or a value that it cannot have.
        """
        path = yaml_file.find(name, folder, "--space")
        content = yaml_file.read(path)
        matched = convert(content.pop("matched_strength", False), bool, f"matched_strength in {path}")
        cases = {str(key): value for key, value in content.items() if isinstance(value, dict)}
        options = {key: _values(key, value, f"{key} in {path}") for key, value in content.items() if key not in cases}
        for key in (*options, *itertools.chain(*cases.values())):
            if key in FIXED:
                raise InputError(f"{key} in {path} is nothing a sweep can vary; give it to the whole sweep instead.")
        if not content:
            raise InputError(f"{path} varies nothing; write lines such as 'car.alpha: [0.1, 5.0, log]'.")
        return cls(options, cases, matched)

    @property
    def finite(self) -> bool:
        return not any(isinstance(values, Range) for values in self.options.values())

    def grid(self) -> Iterator[dict[str, Any]]:
        """The parameters of every trial of a grid.

        Raises:
            InputError: a range that does not say how many values.
        """
        axes: dict[str, Sequence[Any]] = {"case": list(self.cases)} if self.cases else {}
        for key, values in self.options.items():
            if not isinstance(values, Range):
                axes[key] = values
                continue
            if values.points is None:
                raise InputError(
                    f"{key} is a range, and a grid must know how many values of it: [{values.low:g}, {values.high:g}, "
                    f"{'log' if values.log else 'linear'}, 5]; or search with tpe."
                )
            axes[key] = values.grid(values.points)
        for point in itertools.product(*axes.values()):
            yield dict(zip(axes, point, strict=True))

    def suggest(self, trial: Any) -> dict[str, Any]:
        """The parameters of an Optuna trial: those it was queued with, or what its sampler proposes."""
        found = {"case": trial.suggest_categorical("case", list(self.cases))} if self.cases else {}
        for key, values in self.options.items():
            if isinstance(values, Range):
                number = trial.suggest_int if values.whole else trial.suggest_float
                found[key] = number(key, values.low, values.high, log=values.log)
            else:
                found[key] = trial.suggest_categorical(key, values)
        return found

    def job(self, config: Config, parameters: Mapping[str, Any]) -> Config:
        """`config` with the options that `parameters` stand for, its alpha not yet matched."""
        options = {key: value for key, value in parameters.items() if key != "case"}
        job = config.with_options(options, "this sweep")
        if not self.cases:
            return job
        return job.with_options(self.cases[parameters["case"]], f"case {parameters['case']!r}")

    def label(self, parameters: Mapping[str, Any]) -> str:
        """`parameters` as a row of a table: the case, and what can have more than one value."""
        words = [parameters["case"]] if self.cases else []
        for key, values in self.options.items():
            if isinstance(values, Range) or len(values) > 1:
                value = parameters[key]
                words.append(f"{key}={value:.4g}" if isinstance(value, float) else f"{key}={value}")
        return " ".join(words) or "the only one"


def _values(key: str, values: Any, where: str) -> list[Any] | Range:
    """One line: its values, or a range where a scale stands in third place."""
    if not isinstance(values, list) or not values:
        raise InputError(f"{where} is {values!r}, but must be a list of values, or {{option: value}} for a case.")
    if len(values) not in (3, 4) or values[2] not in ("log", "linear"):
        return [option_value(key, value, where) for value in values]
    low, high, scale, *points = values
    low, high = (option_value(key, end, where) for end in (low, high))
    if isinstance(low, bool | str | None) or not low < high or (scale == "log" and low <= 0):
        raise InputError(
            f"{where} is {values}, but must be two rising numbers, above 0 for log, such as [0.1, 5, log]."
        )
    if points and not (isinstance(points[0], int) and points[0] >= 2):
        raise InputError(f"{where} ends in {points[0]!r}, but a grid needs a whole number of values from 2 on.")
    return Range(low, high, scale == "log", points[0] if points else None)
