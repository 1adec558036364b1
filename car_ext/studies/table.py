"""Runs of several methods and seeds as one table."""

from car_ext.metrics.summary import mean_and_deviation
from car_ext.metrics.vocabulary import Score, scores, shown
from car_ext.text import percent

# Of any epoch on the test set: what many papers report, comparable with them only.
BEST = Score("best_overall_accuracy", "best overall accuracy of any epoch", short="best epoch")


def compared() -> list[Score]:
    """The scores that a comparison writes down."""
    return [score for score in scores() if score.short]


def table(results: dict[str, list[dict]]) -> list[dict]:
    """Mean and sample standard deviation of each score over the seeds, a row a method; None where undefined."""
    rows = []
    for method, summaries in results.items():
        row: dict = {"method": method, "seeds": len(summaries)}
        for score in (*compared(), BEST):
            row[score.key], row[f"{score.key}_std"] = mean_and_deviation([score.of(summary) for summary in summaries])
        rows.append(row)
    return rows


def worst_first(rows: list[dict]) -> list[dict]:
    """The rows by falling worst-class accuracy, then by that of the worst tenth and of the rarest three classes."""
    keys = ("worst_class_accuracy", "worst_10pct", "rarest_three_accuracy")
    return sorted(rows, key=lambda row: [row[key] for key in keys], reverse=True)


def markdown(rows: list[dict]) -> str:
    """The table as Markdown, in per cent; without a column that is unknown or, as with ten classes, said twice."""
    columns = {score.key: score.short for score in shown(rows) if score.compact}
    if any(row[BEST.key] is not None for row in rows):
        columns[BEST.key] = BEST.short
    lines = [f"| method | n | {' | '.join(map(str, columns.values()))} |", "| --- | --- |" + " ---: |" * len(columns)]
    for row in rows:
        cells = [percent(row[key], row[f"{key}_std"]) for key in columns]
        lines.append(f"| {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
