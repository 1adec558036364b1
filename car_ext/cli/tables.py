"""The tables that the commands print."""

from collections.abc import Mapping, Sequence

from rich.box import SIMPLE
from rich.console import Console
from rich.table import Column, Table
from rich.text import Text

from car_ext.metrics.label_issues import LabelIssues
from car_ext.metrics.summary import mean_and_deviation
from car_ext.metrics.vocabulary import AT_ZERO, SPEEDS, WORST, Score, scores, shown, speeds
from car_ext.text import percent, printable

SIDE_BY_SIDE = 4  # so many methods fit beside one another
EVALUATIONS_SIDE_BY_SIDE = 3  # they have differences and intervals
BELOW_ONE_ANOTHER = {"at 0 %": AT_ZERO.key, "worst 10 %": "worst_10pct", "worst class": WORST.key}  # of more of them
IN_A_ROW = (
    *BELOW_ONE_ANOTHER.values(),
    "rarest_three_accuracy",
    "overall_accuracy",
)  # of methods; what 80 columns hold
INTERVAL = "95 % interval"


def print_summary(summaries_by_name: Mapping[str, Mapping | Sequence[Mapping]], title: str | None = None) -> None:
    """Prints the scores of one or more methods side by side, in per cent.

    Args:
        summaries_by_name: method name to what `Scoring.summary` or `metrics.summarize` returns, or to a list of those,
            one a seed, which is shown as mean ± standard deviation.
        title: a line above the table.
    """
    columns = {name: [runs] if isinstance(runs, Mapping) else runs for name, runs in summaries_by_name.items()}
    if len(columns) <= SIDE_BY_SIDE:
        table = _side_by_side(columns, title)
    else:
        table = Table(Column("in %", overflow="fold"), box=SIMPLE, title=_text(title) if title else None)
        table.padding = (0, 1, 0, 0)
        compact = [score for score in _listed(columns) if score.key in IN_A_ROW]
        first = next(iter(columns.values()))
        for score in compact:
            of = _cell(score, first).partition(" of ")[2]  # the number of classes, the same for all
            name = f"at 0 % of {of}" if of else (score.short or "").strip()
            table.add_column(name, justify="right", no_wrap=True)
        for name, runs in columns.items():
            table.add_row(_text(name), *[_cell(score, runs).partition(" of ")[0] for score in compact])
    Console().print(table)
    notes = dict.fromkeys(runs[0]["intervals"]["note"] for runs in columns.values() if _bounds(WORST, runs))
    if notes and len(columns) <= SIDE_BY_SIDE:
        print(*notes, sep="\n")


def print_evaluations(summaries_by_name: Mapping[str, Mapping], title: str | None = None) -> None:
    """Prints scores in per cent, with their differences to the first model, and speeds.

    A few models stand side by side with every score; more stand below one another with those that matter most.

    Args:
        summaries_by_name: model name to a summary of `evaluate.evaluate_all`.
        title: a line above the table.
    """
    if len(summaries_by_name) > EVALUATIONS_SIDE_BY_SIDE:
        return _print_below_one_another(summaries_by_name, _text(title) if title else None)
    table = _side_by_side({name: [summary] for name, summary in summaries_by_name.items()}, title)
    table.add_section()
    for row, *spent in zip(SPEEDS, *map(speeds, summaries_by_name.values()), strict=True):
        table.add_row(row, *map(_text, spent))
    Console().print(table)


def _side_by_side(columns: Mapping[str, Sequence[Mapping]], title: str | None) -> Table:
    table = Table(Column("accuracy in %", no_wrap=True), box=SIMPLE, title=_text(title) if title else None)
    for name in columns:
        table.add_column(_text(name), justify="right", overflow="fold")
    for score in _listed(columns):
        cells = [_cell(score, runs) for runs in columns.values()]
        table.add_row(score.short, *cells, style="bold" if score is WORST else None)
        if score is WORST:
            table.add_row("  which one", *[_names(runs) for runs in columns.values()])
            table.add_row("  images right", *[_right(runs) for runs in columns.values()])
        bounds = [_bounds(score, runs) for runs in columns.values()]
        if any(bounds):
            table.add_row(f"  {INTERVAL}", *map(_interval, bounds))
    return table


def _print_below_one_another(summaries_by_name: Mapping[str, Mapping], title: Text | None) -> None:
    accuracies = Table(Column("accuracy in %", overflow="fold"), box=SIMPLE, title=title, collapse_padding=True)
    for row in (*BELOW_ONE_ANOTHER, INTERVAL, "overall"):
        accuracies.add_column(row, justify="right", no_wrap=True, style="bold" if row == WORST.short else None)
    times = Table(Column("speed", overflow="fold"), box=SIMPLE, collapse_padding=True)
    for row in SPEEDS:
        times.add_column(row.replace(", ", "\n", 1), justify="right", no_wrap=row != "runs in")
    by_key = {score.key: score for score in scores()}
    for name, summary in summaries_by_name.items():
        *worst, overall = (_cell(by_key[key], [summary]) for key in (*BELOW_ONE_ANOTHER.values(), "overall_accuracy"))
        accuracies.add_row(_text(name), *worst, _interval(_bounds(WORST, [summary])), overall)
        times.add_row(_text(name), *map(_text, speeds(summary)))
    Console().print(accuracies, times)


def print_prior(summaries_by_name: Mapping[str, Mapping]) -> None:
    """Prints the scores of `ClassPrior.scores`, in per cent.

    Args:
        summaries_by_name: model name to a summary that has them.
    """
    first = next(iter(summaries_by_name.values()))["prior"]
    title = f"with the classes as frequent as in {first['source']}, in %"
    if first["unmeasured"]:
        title += f"; {percent(first['unmeasured'])} % of them, which have no test images, left out"
    table = Table(Column("model", overflow="fold"), box=SIMPLE, title=_text(title))
    for column in ("accuracy", "macro precision", "macro F1"):
        table.add_column(column, justify="right")
    for name, summary in summaries_by_name.items():
        prior = summary["prior"]
        scores = (summary["prior_accuracy"], prior["macro_precision"], prior["macro_f1"])
        table.add_row(_text(name), *map(percent, scores))
    Console().print(table)


def print_label_issues(issues: LabelIssues, most: int) -> None:
    """Prints how many labels are likely wrong, and the most doubtful of them."""
    found = issues.found[:most]
    title = f"{len(issues.found)} of {issues.images} labels are likely wrong" + (f"; the first {most}" if found else "")
    table = Table(box=SIMPLE, title=_text(title), padding=(0, 1, 0, 0))
    for column in ("file", "label", "rather"):
        table.add_column(column, overflow="fold")
    for issue in found:
        given, suggested = (
            f"{name} {percent(probability)}%"
            for name, probability in (
                (issue.given, issue.given_probability),
                (issue.suggested, issue.suggested_probability),
            )
        )
        table.add_row(_text(issue.file), _text(given), _text(suggested))
    Console().print(table if found else title)


def print_worst(confusions: Sequence[Mapping], title: str | None = None) -> None:
    """Prints the worst classes and what they are taken for, in per cent.

    Args:
        confusions: what `metrics.worst_confusions` returns; an entry may have an "interval" of its accuracy besides.
        title: a line above the table.
    """
    table = Table(box=SIMPLE, title=_text(title) if title else None, padding=(0, 1, 0, 0))
    table.add_column("class", overflow="fold")
    for column in ("images\ntrain/test", "accuracy", "precision", "F1"):
        table.add_column(column, justify="right", no_wrap=True)
    table.add_column("confused with", overflow="fold")
    for entry in confusions:
        taken_for = ", ".join(f"{c['class']} {100 * c['fraction']:.0f}%" for c in entry["confused_with"])
        accuracy = f"{percent(entry['accuracy'])}%"
        if "interval" in entry:
            accuracy += f" ({_interval(entry['interval'])})"
        images = f"{entry['class_count']}/{entry['images']}"
        precision, f1 = percent(entry["precision"]), percent(entry["f1"])
        table.add_row(_text(entry["class"]), images, accuracy, precision, f1, _text(taken_for or "-"))
    Console().print(table)


def _listed(columns: Mapping[str, Sequence[Mapping]]) -> list[Score]:
    return [score for score in shown([summary for runs in columns.values() for summary in runs]) if score.short]


def _cell(score: Score, runs: Sequence[Mapping]) -> str:
    """A score of one run, with its difference where it has one, or its mean over runs."""
    mean, deviation = mean_and_deviation([score.of(summary) for summary in runs])
    text = score.text(mean, deviation)
    if score is AT_ZERO and mean is not None:
        text += f" of {sum(value is not None for value in runs[0]['per_class_accuracy'].values())}"
    change = runs[0].get("difference", {}).get(score.key) if len(runs) == 1 else None
    return text if change is None else f"{text} ({100 * change:+.1f})"


def _names(runs: Sequence[Mapping]) -> Text:
    """Their worst classes, each once."""
    return _text(", ".join(dict.fromkeys(summary["worst_class"] for summary in runs if summary["worst_class"])))


def _right(runs: Sequence[Mapping]) -> str:
    """How many images of their worst classes are right; 0.1.0 did not say."""
    counts = [(summary.get("worst_class_right"), summary.get("worst_class_images")) for summary in runs]
    return ", ".join(dict.fromkeys(f"{right} of {images}" for right, images in counts if images)) or "-"


def _bounds(score: Score, runs: Sequence[Mapping]) -> Sequence[float] | None:
    """The interval of a score of one run, if it has one."""
    return runs[0].get("intervals", {}).get(score.key) if len(runs) == 1 else None


def _interval(bounds: Sequence[float] | None) -> str:
    return "-" if bounds is None else " to ".join(map(percent, bounds))


def _text(name: str) -> Text:
    """Names come from folders: brackets are not markup."""
    return Text(printable(name))
