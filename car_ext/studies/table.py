"""Runs of several methods and seeds as one table."""

from collections.abc import Sequence

from car_ext.metrics.summary import mean_and_deviation
from car_ext.metrics.vocabulary import Score, scores, shown

# Of any epoch on the test set: what many papers report, comparable with them only.
BEST = Score("best_overall_accuracy", "best overall accuracy of any epoch", short="best epoch")


def compared() -> list[Score]:
    """The scores that a comparison writes down."""
    return [score for score in scores() if score.short]


def table(results: dict[str, list[dict]], further: Sequence[Score] = ()) -> list[dict]:
    """Mean and sample standard deviation of each score over the seeds, a row a method; None where undefined.

    Args:
        results: method name to its summaries, one a seed.
        further: scores beside those of every comparison.
    """
    rows = []
    for method, summaries in results.items():
        row: dict = {"method": method, "seeds": len(summaries)}
        for score in (*compared(), *further, BEST):
            row[score.key], row[f"{score.key}_std"] = mean_and_deviation([score.of(summary) for summary in summaries])
        rows.append(row)
    return rows


def worst_first(rows: list[dict]) -> list[dict]:
    """The rows by falling accuracy of the worst tenth, then of the worst class and of the rarest three classes."""
    keys = ("worst_10pct", "worst_class_accuracy", "rarest_three_accuracy")
    return sorted(rows, key=lambda row: [row[key] for key in keys], reverse=True)


def markdown(rows: list[dict], first: Sequence[Score] = ()) -> str:
    """The table as Markdown, in per cent; without a column that is unknown or, as with ten classes, said twice.

    Args:
        rows: as of `table`.
        first: scores that come before all others.
    """
    columns = [*first, *(score for score in shown(rows) if score.compact and score not in first)]
    if any(row[BEST.key] is not None for row in rows):
        columns.append(BEST)
    names = [score.short or score.key for score in columns]
    lines = [f"| method | n | {' | '.join(names)} |", "| --- | --- |" + " ---: |" * len(columns)]
    for row in rows:
        cells = [score.text(row[score.key], row[f"{score.key}_std"]) for score in columns]
        lines.append(f"| {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
