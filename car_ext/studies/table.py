"""Runs of several methods and seeds as one table."""

from car_ext.metrics.summary import mean_and_deviation
from car_ext.text import percent

SCORES = (
    "overall_accuracy",
    "balanced_accuracy",
    "worst_class_accuracy",
    "worst_10pct",
    "rarest_three_accuracy",
    "many",
    "medium",
    "few",
    "worst_class_ratio",
)

BEST = "best_overall_accuracy"  # of any epoch on the test set: what many papers report, comparable with them only


def table(results: dict[str, list[dict]]) -> list[dict]:
    """Mean and sample standard deviation of each score over the seeds, a row a method; None where undefined."""
    rows = []
    for method, summaries in results.items():
        row: dict = {"method": method, "seeds": len(summaries)}
        for key in (*SCORES, BEST):
            row[key], row[f"{key}_std"] = mean_and_deviation([summary.get(key) for summary in summaries])
        rows.append(row)
    return rows


def worst_first(rows: list[dict]) -> list[dict]:
    """The rows by falling worst-class accuracy, then by that of the worst tenth and of the rarest three classes."""
    keys = ("worst_class_accuracy", "worst_10pct", "rarest_three_accuracy")
    return sorted(rows, key=lambda row: [row[key] for key in keys], reverse=True)


def markdown(rows: list[dict]) -> str:
    """The table as Markdown, in per cent; without a column that is unknown or, as with ten classes, said twice."""
    columns = {
        "overall_accuracy": "overall",
        "worst_class_accuracy": "worst class",
        "worst_10pct": "worst 10 %",
        "rarest_three_accuracy": "rarest three",
        "many": "many",
        "medium": "medium",
        "few": "few",
        BEST: "best epoch",
    }
    if all(row[BEST] is None for row in rows):
        del columns[BEST]
    if all(row["worst_10pct"] in (None, row["worst_class_accuracy"]) for row in rows):
        del columns["worst_10pct"]
    lines = [f"| method | n | {' | '.join(columns.values())} |", "| --- | --- |" + " ---: |" * len(columns)]
    for row in rows:
        cells = [percent(row[key], row[f"{key}_std"]) for key in columns]
        lines.append(f"| {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"
