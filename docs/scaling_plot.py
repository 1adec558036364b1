#!/usr/bin/env python
"""Draws docs/scaling.png: what a step of CAR takes, of the newest results of benchmarks/classes.py.

python docs/scaling_plot.py [RESULTS.json] [scaling.png]
"""

import argparse
import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("Agg")
from matplotlib import pyplot as plt
from matplotlib.ticker import NullLocator

FOLDER = Path(__file__).resolve().parent
RESULTS = FOLDER.parent / "benchmarks" / "results"
COLOURS = {"dense": "#9aa0a6", "window": "#d1495b"}
MEASURES = {"seconds": "seconds a step", "gigabytes": "GB beyond PyTorch"}
Row = dict[str, Any]


def newest(folder: Path) -> Path:
    """The last of the dated results."""
    found = sorted(folder.glob("classes-*.json"))
    if not found:
        raise SystemExit(f"{folder} holds no classes-DATE.json; run benchmarks/classes.py --json")
    return found[-1]


def lines(rows: Iterable[Row], x: str, fixed: tuple[str, ...]) -> dict[tuple, list[Row]]:
    """The rows that agree in all but `x`, in its order, by what they agree in; only where there are two or more."""
    groups: dict[tuple, list[Row]] = {}
    for row in sorted(rows, key=lambda row: row[x]):
        groups.setdefault(tuple(row[key] for key in fixed), []).append(row)
    return {key: group for key, group in groups.items() if len({row[x] for row in group}) > 1}


def longest(rows: Iterable[Row], x: str, fixed: tuple[str, ...]) -> list[Row]:
    """The line with most points; of several the first."""
    return max(lines(rows, x, fixed).values(), key=len, default=[])


def draw(results: dict[str, Any], path: Path) -> None:
    """A column for each of K, B and T, a row for time and one for memory."""
    whole = [row for row in results["rows"] if row["estimator"] == "dense"]
    window = [row for row in results["rows"] if row["estimator"] == "window"]
    by_classes = longest(window, "classes", ("samples", "beta"))
    columns: list[tuple[str, str, list[tuple[str, list[Row]]], Callable[[Row], str]]] = [
        (
            "classes",
            "classes K",
            [("window", by_classes), ("dense", longest(whole, "classes", ("samples",)))],
            lambda row: f"B = {row['samples']}" + (f", T = {row['batches']}" if row["batches"] else ""),
        ),
        (
            "samples",
            "samples B",
            [("window", longest(window, "samples", ("classes", "beta")))],
            lambda row: f"K = {row['classes']:,}, T = {row['batches']}",
        ),
        (
            "batches",
            "batches T that the window remembers",
            [("window", longest(window, "batches", ("samples", "classes")))],
            lambda row: f"B = {row['samples']}, K = {row['classes']:,}",
        ),
    ]
    figure, axes = plt.subplots(2, 3, figsize=(10, 5.6), dpi=150, layout="constrained", sharex="col", sharey="row")
    for column, (x, name, drawn, fixed) in enumerate(columns):
        for row, (measure, label) in enumerate(MEASURES.items()):
            cell = axes[row][column]
            for kind, points in drawn:
                if points:
                    numbers = [[point[key] for point in points] for key in (x, measure)]
                    words = f"{'kept whole' if kind == 'dense' else 'window'}: {fixed(points[0])}"
                    cell.plot(*numbers, marker="o", markersize=4, color=COLOURS[kind], label=words)
            cell.set(xscale="log", yscale="log", ylabel=label if column == 0 else None, xlabel=name if row else None)
            measured = sorted({point[x] for _, points in drawn for point in points})
            cell.xaxis.set_minor_locator(NullLocator())
            cell.set_xticks(measured, [f"{number:,}" for number in measured], fontsize=8)
            cell.grid(alpha=0.3)
            cell.spines[["top", "right"]].set_visible(False)
        if any(points for _, points in drawn):
            axes[0][column].legend(frameon=False, fontsize=8)
    figure.suptitle(
        f"A step of CAR on the CPU: torch {results['torch']}, {results['threads']} thread(s), {results['date']}",
        fontsize=10,
    )
    figure.savefig(path)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("results", type=Path, nargs="?")
    parser.add_argument("picture", type=Path, nargs="?", default=FOLDER / "scaling.png")
    arguments = parser.parse_args()
    results = arguments.results or newest(RESULTS)
    draw(json.loads(results.read_text(encoding="utf-8")), arguments.picture)
    print(f"{arguments.picture}: of {results}")


if __name__ == "__main__":
    main()
