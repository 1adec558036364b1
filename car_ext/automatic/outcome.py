"""The account of a choice: what was tried, what was chosen, what it promises and costs, what the test images said."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from car_ext.automatic.choice import Choice, Row
from car_ext.automatic.goal import Goal
from car_ext.automatic.promise import Interval, gained
from car_ext.automatic.race import Raced
from car_ext.files import write_json
from car_ext.metrics.counts import number
from car_ext.text import percent

FILE = "auto.json"
WORDS = {"worst10": "worst tenth", "worst": "worst class", "balanced": "balanced accuracy", "overall": "worst tenth"}
NAMED = 20  # classes that are named at most
PAYING = 0.05  # of accuracy that a class must lose to be named


@dataclass(frozen=True)
class Outcome:
    """What `auto` returns.

    Attributes:
        facts: what auto.json holds, ready for JSON; accuracies are fractions.
        folder: of the result, which is a run.
    """

    facts: dict[str, Any]
    folder: Path

    @classmethod
    def read(cls, folder: Path) -> "Outcome | None":
        """Of a finished choice; None where there is none."""
        path = folder / FILE
        if not path.exists() or not (folder / "summary.json").exists():
            return None
        return cls(json.loads(path.read_text(encoding="utf-8")), folder)

    def write(self, folder: Path) -> None:
        write_json(folder / FILE, self.facts)


def facts_of(
    raced: Raced,
    choice: Choice,
    goal: Goal,
    promised: Interval,
    summary: Mapping[str, Any],
    notes: Sequence[str],
    seconds: float,
    asked: Mapping[str, Any],
    folder: Path,
) -> Outcome:
    """The account, of the search and of the summary on the test images."""
    best, names = raced.best, raced.data.class_names
    measured = choice.row.measured
    gain = gained(measured, choice.without.measured, goal)
    losses = choice.without.measured.accuracies - measured.accuracies
    paying = [int(label) for label in np.argsort(-np.nan_to_num(losses)) if losses[label] >= PAYING]
    unmeasured = [names[label] for label in np.flatnonzero(measured.images == 0)]
    facts = {
        "asked": dict(asked),
        "target": goal.word if not goal.least_overall else f"overall>={goal.least_overall:g}",
        "chosen": choice.name,
        "representation": best.name,
        "raced": [
            {"name": entry.name, "score": entry.score, "balanced": entry.balanced, "folds": len(entry.folds)}
            for entry in raced.entries
        ],
        "tried": [_row(row, goal) | {"chosen": row.measured is measured} for row in choice.rows],
        "tried_first": choice.without.name,
        "members": choice.members,
        "offsets": dict(zip(names, choice.values.tolist(), strict=True)),
        "offsets_from": "all folds" if not best.epochs else f"{len(best.folds)} of the folds",
        "groups": {"source": raced.dependence.source, "number": len(np.unique(raced.dependence.numbers))},
        "unmeasured": unmeasured,
        "gain": gain._asdict(),
        "overall_change": measured.overall - choice.without.measured.overall,
        "paying": [[names[label], float(losses[label])] for label in paying[:NAMED]],
        "promised": {key: number(value) for key, value in promised._asdict().items()},
        "test": _on_test(summary, names, measured.images > 0, goal),
        "notes": list(notes),
        "seconds": seconds,
    }
    return Outcome({**facts, "sentences": _sentences(facts)}, folder)


def _sentences(facts: Mapping[str, Any]) -> list[str]:
    """What to know of the choice, the most important first."""
    word = WORDS[facts["target"].partition(">")[0]]
    gain, promised, told = facts["gain"], facts["promised"], []
    told.append(f"chosen: {facts['chosen']}, on {facts['representation']}")
    if facts["chosen"] == facts["tried_first"]:
        told.append(f"nothing is better than {facts['chosen']} by more than chance: nothing has to be done")
    else:
        between = f"95 % between {_points(gain['low'])} and {_points(gain['high'])}"
        told.append(
            f"{word} {_points(gain['middle'])} ({between}), overall {_points(facts['overall_change'])}, on your own "
            f"folds, against {facts['tried_first']}"
        )
    if facts["paying"]:
        classes = ", ".join(f"{name} {_points(-loss)}" for name, loss in facts["paying"][:5])
        told.append(f"classes that pay for it: {classes}" + (" and others" if len(facts["paying"]) > 5 else ""))
    if promised["middle"] is not None:
        test = "" if facts["test"] is None else f"; they say {percent(facts['test'])}"
        between = f"95 % between {percent(promised['low'])} and {percent(promised['high'])}"
        told.append(f"promised for the test images: {word} {percent(promised['middle'])}, {between}{test}")
    if unmeasured := facts["unmeasured"]:
        told.append(
            f"{len(unmeasured)} classes have one image, or group, which no fold can measure: the class prior decides "
            f"their offsets, and they are left out of the choice: {', '.join(unmeasured[:NAMED])}"
            + (", ..." if len(unmeasured) > NAMED else "")
        )
    if source := facts["groups"]["source"]:
        told.append(f"folds keep {facts['groups']['number']:,} groups together, by {source}")
    told.append(f"offsets and scores are from {facts['offsets_from']}")
    return told


def _points(change: float) -> str:
    return f"{100 * change:+.1f}".replace("-", "\N{MINUS SIGN}")


def _row(row: Row, goal: Goal) -> dict[str, Any]:
    accuracies = row.measured.accuracies
    seen = accuracies[~np.isnan(accuracies)]
    return {
        "name": row.name,
        "offsets": row.offsets,
        "score": row.score,
        "error": row.error,
        "target": float(goal.of(seen)),
        "balanced": float(seen.mean()),
        "overall": row.measured.overall,
    }


def _on_test(summary: Mapping[str, Any], names: Sequence[str], measured: np.ndarray, goal: Goal) -> float | None:
    """The score of the goal on the test images, of the classes that could be promised."""
    found = [summary["per_class_accuracy"][name] for name, seen in zip(names, measured, strict=True) if seen]
    known = np.array([value for value in found if value is not None])
    return float(goal.of(known)) if known.size else None
