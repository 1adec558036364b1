"""The page of an automatic choice: what was raced and tried, what was chosen, what it promises and costs."""

from collections.abc import Mapping
from typing import Any

from car_ext.report.cells import LONGEST, Cell, Table, cut, percent
from car_ext.report.frame import page
from car_ext.text import printable

TITLES = {"worst10": "worst 10 %", "worst": "worst class", "balanced": "balanced"}


def render(facts: Mapping[str, Any]) -> str:
    """The page as one text.

    Args:
        facts: as of `automatic.outcome.Outcome`.
    """
    return page(
        "choice.html",
        "Automatic choice",
        f"{facts['seconds']:,.0f} seconds, target {printable(facts['target'])}",
        ["summary", "representations", "heads", "offsets"],
        sentences=[printable(sentence) for sentence in facts["sentences"]],
        notes=[printable(note) for note in facts["notes"]],
        raced=_raced(facts),
        tried=_tried(facts),
        offsets=_offsets(facts),
    )


def _raced(facts: Mapping[str, Any]) -> Table:
    rows = [
        [printable(one["name"]), percent(one["score"]), percent(one["balanced"]), str(one["folds"])]
        for one in facts["raced"]
    ]
    caption = "On the first fold, in %: the mean of target and balanced accuracy, shrunken; balanced accuracy as it is"
    return Table(caption, ["representation", "score", "balanced", "folds measured"], rows)


def _tried(facts: Mapping[str, Any]) -> Table:
    target = TITLES.get(facts["target"], TITLES["worst10"])
    rows: list[list[str | Cell]] = [
        [
            printable(one["name"]),
            Cell(one["offsets"], "chosen" if one["chosen"] else ""),
            f"{percent(one['score'])} ± {percent(one['error'])}",
            percent(one["target"]),
            percent(one["balanced"]),
            percent(one["overall"]),
        ]
        for one in facts["tried"][:LONGEST]
    ]
    caption = (
        "Out of fold, in %, the best first: the target of shrunken accuracies with the standard error of its "
        "difference to the choice; then accuracies as they are" + cut(len(facts["tried"]))
    )
    return Table(caption, ["head", "offsets", "score", target, "balanced", "overall"], rows, frozenset({1}))


def _offsets(facts: Mapping[str, Any]) -> Table:
    falling = sorted(facts["offsets"].items(), key=lambda item: -item[1])
    rows = [[printable(name), f"{value:+.2f}"] for name, value in falling[:LONGEST]]
    return Table("Added to the logits, the largest first" + cut(len(falling)), ["class", "offset"], rows)
