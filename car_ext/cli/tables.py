"""The tables that the commands print."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from car_ext.metrics.summary import mean_and_deviation
from car_ext.metrics.vocabulary import SPEEDS, WORST, Score, shown, speeds
from car_ext.text import percent, printable

SIDE_BY_SIDE = 4  # so many methods fit beside one another
EVALUATIONS_SIDE_BY_SIDE = 3  # they have differences and intervals
BELOW_ONE_ANOTHER = ("overall_accuracy", WORST.key, "rarest_three_accuracy")  # of more evaluations
WHICH = "  which one"


def print_summary(summaries_by_name: Mapping[str, Mapping | Sequence[Mapping]], title: str | None = None) -> None:
    """Prints the scores of one or more methods side by side, in per cent.

    Args:
        summaries_by_name: method name to what `metrics.summarize` returns, or to a list of those, one a seed, which
            is shown as mean ± standard deviation.
        title: a line above the table.
    """
    table = Table(Column("accuracy in %", overflow="fold"), box=SIMPLE, title=_text(title) if title else None)
    columns = [[runs] if isinstance(runs, Mapping) else runs for runs in summaries_by_name.values()]
    listed = _listed([summary for runs in columns for summary in runs])
    if len(columns) <= SIDE_BY_SIDE:
        for name in summaries_by_name:
            table.add_column(_text(name), justify="right", overflow="fold")
        for score in listed:
            cells = [_cell([score.of(summary) for summary in runs]) for runs in columns]
            table.add_row(score.short, *cells, style="bold" if score is WORST else None)
            if score is WORST:
                table.add_row(WHICH, *[_cell([summary["worst_class"] for summary in runs]) for runs in columns])
    else:
        compact = [score for score in listed if score.compact]
        for score in compact:
            table.add_column(score.short or "", justify="right")
        for name, runs in zip(summaries_by_name, columns, strict=True):
            table.add_row(_text(name), *[_cell([score.of(summary) for summary in runs]) for score in compact])
    Console().print(table)


def print_evaluations(summaries_by_name: Mapping[str, Mapping], title: str | None = None) -> None:
    """Prints scores in per cent, with their differences to the first model, and speeds.

    A few models stand side by side with every score; more stand below one another with those that matter most.

    Args:
        summaries_by_name: model name to a summary of `evaluate.evaluate_all`.
        title: a line above the table.
    """
    few = len(summaries_by_name) <= EVALUATIONS_SIDE_BY_SIDE
    (_print_side_by_side if few else _print_below_one_another)(summaries_by_name, _text(title) if title else None)


def _print_side_by_side(summaries_by_name: Mapping[str, Mapping], title: Text | None) -> None:
    table = Table(Column("accuracy in %", no_wrap=True), box=SIMPLE, title=title)
    for name in summaries_by_name:
        table.add_column(_text(name), justify="right", overflow="fold")
    summaries = summaries_by_name.values()
    for score in _listed(summaries):
        cells = [_changed(summary, score.key) for summary in summaries]
        table.add_row(score.short, *cells, style="bold" if score is WORST else None)
        if score.key in ("overall_accuracy", WORST.key):
            bounds = [summary["intervals"][score.key] for summary in summaries]
            table.add_row("  95 % interval", *[_interval(pair) for pair in bounds])
        if score is WORST:
            table.add_row(WHICH, *[_cell([summary["worst_class"]]) for summary in summaries])
    table.add_section()
    for row, *spent in zip(SPEEDS, *map(speeds, summaries), strict=True):
        table.add_row(row, *map(_text, spent))
    Console().print(table)


def _print_below_one_another(summaries_by_name: Mapping[str, Mapping], title: Text | None) -> None:
    accuracies = Table(Column("accuracy in %", overflow="fold"), box=SIMPLE, title=title, collapse_padding=True)
    for row in ("overall", "worst class", "95 % interval", "rarest three"):
        accuracies.add_column(row, justify="right", no_wrap=True, style="bold" if row == "worst class" else None)
    times = Table(Column("speed", overflow="fold"), box=SIMPLE, collapse_padding=True)
    for row in SPEEDS:
        times.add_column(row.replace(", ", "\n", 1), justify="right", no_wrap=row != "runs in")
    for name, summary in summaries_by_name.items():
        overall, worst, rarest = (_changed(summary, key) for key in BELOW_ONE_ANOTHER)
        bounds = _interval(summary["intervals"]["worst_class_accuracy"])
        accuracies.add_row(_text(name), overall, worst, bounds, rarest)
        times.add_row(_text(name), *map(_text, speeds(summary)))
    Console().print(accuracies, times)


def print_worst(confusions: Sequence[Mapping], title: str | None = None) -> None:
    """Prints the worst classes and what they are taken for, in per cent.

    Args:
        confusions: what `metrics.worst_confusions` returns; an entry may have an "interval" of its accuracy besides.
        title: a line above the table.
    """
    table = Table(box=SIMPLE, title=_text(title) if title else None)
    table.add_column("class", overflow="fold")
    table.add_column("training images", justify="right")
    table.add_column("accuracy", justify="right")
    table.add_column("confused with", overflow="fold")
    for entry in confusions:
        taken_for = ", ".join(f"{c['class']} {100 * c['fraction']:.0f}%" for c in entry["confused_with"])
        accuracy = f"{percent(entry['accuracy'])}%"
        if "interval" in entry:
            accuracy += f" ({_interval(entry['interval'])})"
        table.add_row(_text(entry["class"]), str(entry["class_count"]), accuracy, _text(taken_for or "-"))
    Console().print(table)


def _listed(summaries: Iterable[Mapping]) -> list[Score]:
    return [score for score in shown(summaries) if score.short]


def _changed(summary: Mapping, key: str) -> Text | str:
    change = summary.get("difference", {}).get(key)
    return _cell([summary[key]]) if change is None else f"{percent(summary[key])} ({100 * change:+.1f})"


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else " to ".join(map(percent, bounds))


def _cell(values: Sequence[Any]) -> Text | str:
    """Of accuracies, some perhaps None, or of names of classes, one a run."""
    if any(isinstance(value, str) for value in values):
        return _text(", ".join(dict.fromkeys(value for value in values if value)))
    return percent(*mean_and_deviation(values))


def _text(name: str) -> Text:
    """Names come from folders: brackets are not markup."""
    return Text(printable(name))
