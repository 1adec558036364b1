"""How right a run is where it is how sure, and how many classes it has to name to be right."""

from collections.abc import Mapping

from car_ext.report.cells import LONGEST, Table, cut, percent
from car_ext.report.runs import Run
from car_ext.text import nfc, printable


def bins(run: Run) -> Table:
    held = run.found.reliability
    rows = [
        [f"{100 * low:.0f} to {100 * high:.0f} %", str(count), percent(confidence), percent(accuracy)]
        for low, high, count, confidence, accuracy in zip(
            held["edges"][:-1],
            held["edges"][1:],
            *(held[key] for key in ("count", "confidence", "accuracy")),
            strict=True,
        )
    ]
    columns = ["confidence", "images", "mean confidence, %", "accuracy, %"]
    return Table(f"{run.name}: bins of the confidence", columns, rows)


def temperature(run: Run) -> str | None:
    """What the logits are divided by, one number or one for each group of classes; None where it is not known."""
    held = run.summary.get("temperature")
    if not isinstance(held, Mapping):
        return f"{held:.3g}" if held else None
    return ", ".join(f"{value:.3g}" if name == "all" else f"{value:.3g} ({name})" for name, value in held.items())


def conformal(run: Run) -> Table | None:
    """Of each class, least covered first, how often the true one is in the set; None where no sets were made."""
    sets = run.summary.get("conformal")
    if not sets:
        return None
    held = [(name, one) for name, one in sets["per_class"].items() if one and one.get("coverage") is not None]
    rows = [
        [printable(nfc(name)), percent(one["coverage"]), _size(one.get("size"))]
        for name, one in sorted(held, key=lambda pair: pair[1]["coverage"])
    ]
    return Table(
        f"{run.name}: conformal sets for a coverage of {percent(1 - sets['alpha'])} %; over all test images "
        f"{percent(sets['coverage'])} %, {_size(sets['mean_size'])} classes a set. Least covered first{cut(len(rows))}",
        ["class", "coverage, %", "classes a set"],
        rows[:LONGEST],
    )


def _size(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"
