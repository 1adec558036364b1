"""The scores of every run, and how fast it is."""

from collections.abc import Sequence

from car_ext.metrics.vocabulary import SPEEDS, WORST, shown
from car_ext.metrics.vocabulary import speeds as measured
from car_ext.report.cells import Cell, Table, difference, number, percent
from car_ext.report.runs import Run
from car_ext.text import nfc, printable


def table(runs: Sequence[Run]) -> Table:
    """Every score of every run, with its difference to the first; behind them, apart, those on validation images."""
    tested, validated = [run.summary for run in runs], [run for run in runs if run.summary.get("validation")]
    parts = [tested, [run.summary["validation"] for run in validated]]
    rows: list[list[str | Cell]] = []
    for score in shown(tested):
        values = [[score.of(summary) for summary in part] for part in parts]
        if all(value is None for part in values for value in part):
            continue
        name = score.name + (", %" if score.fraction else "")
        better = "more" if score.more_is_better else "less"
        cells = [cell for part in values if part for cell in _cells(part, score.fraction, score.more_is_better)]
        rows.append([name, better, *cells])
        if score is WORST:
            named = (printable(nfc(run.summary["validation"].get("worst_class") or "-")) for run in validated)
            rows.append(["which class that is", "", *(run.worst_name for run in runs), *named])
    caption = "Scores on the test images"
    if validated:
        caption += " and, apart, on the validation images, by which the kept epoch was chosen"
    if len(runs) > 1:
        caption += f"; small: points above or below {runs[0].name}"
    columns = ["", "better if", *(run.name for run in runs), *(f"{run.name}, validation" for run in validated)]
    return Table(caption, columns, rows, frozenset([1]), "rows")


def priors(runs: Sequence[Run]) -> Table | None:
    """Of the runs that were scored as if the classes were of other frequencies; None where none was."""
    rows = [
        [
            run.name,
            printable(str(prior["source"])),
            percent(run.summary.get("prior_accuracy")),
            percent(prior.get("macro_precision")),
            percent(prior.get("macro_f1")),
            percent(prior.get("unmeasured")),
        ]
        for run in runs
        if (prior := run.summary.get("prior"))
    ]
    columns = ["", "test prior", "accuracy, %", "macro precision, %", "macro F1, %", "images of classes not tested, %"]
    caption = "Scores where the classes are as frequent as the test prior says, and no easier or harder than here"
    return Table(caption, columns, rows, frozenset([1]), "columns") if rows else None


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
