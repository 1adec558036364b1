"""The scores of every run, and how fast it is."""

from collections.abc import Sequence

from car_ext.metrics.vocabulary import SPEEDS, WORST, shown
from car_ext.metrics.vocabulary import speeds as measured
from car_ext.report.cells import Cell, Table, difference, number, percent
from car_ext.report.runs import Run


def table(runs: Sequence[Run]) -> Table:
    """Every score of every run, with its difference to the first."""
    rows: list[list[str | Cell]] = []
    summaries = [run.summary for run in runs]
    for score in shown(summaries):
        values = [score.of(summary) for summary in summaries]
        if all(value is None for value in values):
            continue
        name = score.name + (", %" if score.fraction else "")
        better = "more" if score.more_is_better else "less"
        rows.append([name, better, *_cells(values, score.fraction, score.more_is_better)])
        if score is WORST:
            rows.append(["which class that is", "", *(run.worst_name for run in runs)])
    caption = "Scores on the test images" + (f"; small: points above or below {runs[0].name}" if len(runs) > 1 else "")
    return Table(caption, ["", "better if", *(run.name for run in runs)], rows, frozenset([1]))


def speeds(runs: Sequence[Run]) -> Table | None:
    """Of the runs that are evaluations; None where none is."""
    rows = [[run.name, *measured(run.summary)] for run in runs if "latency_ms" in run.summary]
    return Table("Speed of the model's calls", ["", *SPEEDS], rows, frozenset([1])) if rows else None


def _cells(values: Sequence[float | None], fraction: bool, more: bool) -> list[Cell]:
    """One score of every run, the best marked unless all look alike."""
    show = percent if fraction else number
    shown = [show(value) for value in values]
    defined = [value for value in values if value is not None]
    best = show((max if more else min)(defined)) if len(set(shown)) > 1 else None
    changes = ["", *(difference(value, values[0], fraction) for value in values[1:])]
    return [Cell(text, change, text == best) for text, change in zip(shown, changes, strict=True)]
