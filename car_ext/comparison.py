"""The same job with and without the regularizer, over several seeds: what it does to the worst class."""

import dataclasses
import statistics
from collections.abc import Sequence
from pathlib import Path

from car_ext.cli import percent
from car_ext.config import Config
from car_ext.engine import train
from car_ext.errors import InputError
from car_ext.evaluate import evaluate
from car_ext.export import to_onnx
from car_ext.metrics import mean_and_deviation

SCORES = (
    "overall_accuracy",
    "balanced_accuracy",
    "worst_class_accuracy",
    "rarest_three_accuracy",
    "many",
    "medium",
    "few",
    "worst_class_ratio",
)


def compare(config: Config, seeds: Sequence[int], out: Path, *, progress: bool = True) -> dict[str, list[dict]]:
    """Train every method with every seed, export the runs with the regularizer and score those in onnxruntime.

    Runs go to ``out/METHOD-seedN``; finished ones are read, not repeated, and an interrupted one is resumed.

    Args:
        config: the job; its regularizer (car if none is named) is the one compared with none.
        seeds: at least one.
        out: folder of the runs.

    Returns:
        Method name to its summaries, one a seed: without, with, and with in onnxruntime.

    Raises:
        InputError: anything wrong with the job, or runs in ``out`` that belong to another one.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: give one or more, each once.")
    regularizer = "car" if config.regularizer == "none" else config.regularizer
    results: dict[str, list[dict]] = {}
    for name in ("none", regularizer):
        method = dataclasses.replace(config, regularizer=name)
        for seed in seeds:
            run_dir = out / f"{method.method}-seed{seed}"
            job = dataclasses.replace(method, seed=seed, out=str(run_dir), resume=run_dir.exists())
            results.setdefault(method.method, []).append(train(job, progress=progress))
            if name != "none":
                summary, _ = evaluate(to_onnx(run_dir), config.data, progress=progress)
                results.setdefault(f"{method.method}, onnxruntime", []).append(summary)
    return results


def table(results: dict[str, list[dict]]) -> list[dict]:
    """Mean and sample standard deviation of each score over the seeds, a row a method; None where undefined."""
    rows = []
    for method, summaries in results.items():
        row: dict = {"method": method, "seeds": len(summaries)}
        for key in SCORES:
            row[key], row[f"{key}_std"] = mean_and_deviation([summary[key] for summary in summaries])
        rows.append(row)
    return rows


def markdown(rows: list[dict]) -> str:
    """The table as Markdown, in per cent."""
    columns = ("overall", "worst class", "rarest three", "many", "medium", "few")
    keys = ("overall_accuracy", "worst_class_accuracy", "rarest_three_accuracy", "many", "medium", "few")
    lines = [f"| method | n | {' | '.join(columns)} |", "| --- | --- |" + " ---: |" * len(columns)]
    for row in rows:
        cells = [percent(row[key], row[f"{key}_std"]) for key in keys]
        lines.append(f"| {row['method']} | {row['seeds']} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def draw(results: dict[str, list[dict]], path: Path) -> None:
    """Accuracy of every class, most frequent first, one line a method, mean over the seeds; a PNG or SVG."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    trained = {name: summaries for name, summaries in results.items() if "provider" not in summaries[0]}
    counts = next(iter(trained.values()))[0]["class_counts"]
    order = sorted(counts, key=counts.get, reverse=True)
    figure, axes = plt.subplots(figsize=(8, 3.6), dpi=150, layout="constrained")
    for (method, summaries), colour, marker in zip(trained.items(), ("#9aa0a6", "#d1495b"), "so", strict=False):
        per_class = [[summary["per_class_accuracy"][name] or 0.0 for name in order] for summary in summaries]
        means = [100 * statistics.mean(column) for column in zip(*per_class, strict=True)]
        worst = statistics.mean(summary["worst_class_accuracy"] for summary in summaries)
        label = f"{method}: worst class {100 * worst:.1f} %"
        axes.plot(range(len(order)), means, color=colour, marker=marker, markersize=5, label=label)
    bars = axes.twinx()
    bars.bar(range(len(order)), [counts[name] for name in order], color="#4a7fb0", alpha=0.15)
    bars.set_ylabel("training images")
    bars.set_yscale("log")
    axes.set_ylim(-3, 103)
    axes.set_ylabel("test accuracy, %")
    axes.set_zorder(bars.get_zorder() + 1)  # lines over bars
    axes.patch.set_visible(False)
    if len(order) <= 20:
        axes.set_xticks(range(len(order)), [f"{name[:12]}\n{counts[name]}" for name in order], fontsize=8)
    axes.set_xlabel("class, with its training images" if len(order) <= 20 else "classes, most frequent first")
    axes.set_title(f"{next(iter(trained.values()))[0]['data']}: mean over {len(summaries)} seed(s)", fontsize=10)
    axes.legend(loc="lower left", frameon=False)
    axes.spines["top"].set_visible(False)
    bars.spines["top"].set_visible(False)
    figure.savefig(path)
    plt.close(figure)
