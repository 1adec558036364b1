"""The same job by several methods and over several seeds: what each does to the worst class."""

import contextlib
import dataclasses
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from car_ext import yaml_file
from car_ext.cli import percent
from car_ext.config import Config
from car_ext.engine import train
from car_ext.errors import InputError
from car_ext.evaluate import evaluate
from car_ext.export import to_onnx
from car_ext.metrics import mean_and_deviation
from car_ext.recipe import second_stage
from car_ext.run_folder import RunFolder

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

LINES = 4  # methods that can be told apart in one plot of lines
COLOURS = ("#9aa0a6", "#d1495b", "#2a9d8f", "#e9c46a")

Methods = Mapping[str, Mapping[str, Any]]  # name -> the options in which it differs from the job


def read_methods(name: str, folder: Path) -> Methods:
    """A file of methods, ``METHOD: {option: value}``, by path or by its name in ``folder``.

    Raises :class:`InputError` for a file that is not one; the options are checked where they are used.
    """
    path = yaml_file.find(name, folder, "--methods")
    content = yaml_file.read(path)
    for method, options in content.items():
        if not isinstance(options, dict) or not re.fullmatch(r"[\w.+-]+", str(method)):
            raise InputError(f"{path} holds {method!r}: {options!r}, but must hold lines 'NAME: {{option: value}}'.")
    return content


def with_and_without(config: Config) -> Methods:
    """The job without a regularizer and with its own, CAR if it names none."""
    regularizer = "car" if config.regularizer == "none" else config.regularizer
    both = [dataclasses.replace(config, regularizer=name) for name in ("none", regularizer)]
    return {job.method: {"regularizer": job.regularizer} for job in both}


def compare(
    config: Config,
    methods: Methods,
    seeds: Sequence[int],
    out: Path,
    *,
    exported: Sequence[str] = (),
    progress: bool = True,
) -> dict[str, list[dict]]:
    """Train every method with every seed.

    Runs go to ``out/METHOD-seedN``; finished ones are read, not repeated, and an interrupted one is resumed.

    Args:
        config: the job.
        methods: name to options over the job's. ``stage2`` names an earlier method, whose run with the same seed is
            the first stage.
        seeds: at least one.
        out: folder of the runs.
        exported: methods whose runs are exported and scored in onnxruntime as well.

    Returns:
        Method name to its summaries, one a seed, and in each the overall accuracy of the best epoch; those in
        onnxruntime as ``METHOD, onnxruntime``.

    Raises:
        InputError: anything wrong with a job, or runs in ``out`` that belong to another one.
    """
    if not seeds or len(set(seeds)) != len(seeds):
        raise InputError(f"--seeds {' '.join(map(str, seeds))}: give one or more, each once.")
    results: dict[str, list[dict]] = {}
    for name in methods:
        for seed in seeds:
            run_dir = out / f"{name}-seed{seed}"
            job = _job(config, methods, name, seed, out)
            job = dataclasses.replace(job, seed=seed, out=str(run_dir), resume=run_dir.exists())
            summary = train(job, progress=progress)
            best = max(row["test_overall"] for row in RunFolder(run_dir).read_metrics())
            results.setdefault(name, []).append(summary | {BEST: best})
            if name in exported:
                scored = evaluate(to_onnx(run_dir), config.data, options=config.data_options, progress=progress)
                results.setdefault(f"{name}, onnxruntime", []).append(scored.summary)
    return results


def _job(config: Config, methods: Methods, name: str, seed: int, out: Path) -> Config:
    options = dict(methods[name])
    if (first := options.get("stage2")) is None:
        return config.with_options(options, f"method {name!r}")
    if first not in methods or list(methods).index(first) >= list(methods).index(name):
        raise InputError(f"method {name!r} has stage2 {first!r}, which is no method before it.")
    threads = {"threads": config.threads}
    return second_stage(out / f"{first}-seed{seed}", threads | options, f"method {name!r}")


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


def draw(results: dict[str, list[dict]], path: Path) -> None:
    """A picture of the comparison, means over the seeds; a PNG or SVG.

    A few methods: the accuracy of every class, most frequent first, one line a method. More: `draw_scores`.
    """
    trained = {name: summaries for name, summaries in results.items() if "provider" not in summaries[0]}
    summaries = next(iter(trained.values()))
    title = f"{summaries[0]['data']}: mean over {len(summaries)} seed(s)"
    if len(trained) > LINES:
        draw_scores(trained, path, title)
    else:
        with _figure(path, title, 3.6) as axes:
            _draw_classes(axes, trained)


def draw_scores(results: Mapping[str, Sequence[Mapping]], path: Path, title: str) -> None:
    """Overall and worst-class accuracy of each method, one row a method, the best on top; a PNG or SVG.

    Args:
        results: method name to one mapping a seed with "overall_accuracy" and "worst_class_accuracy", fractions.
        path: of the file.
        title: above the picture.
    """
    scores = ("worst_class_accuracy", "overall_accuracy")
    means = {name: [100 * _mean_of(summaries, key) for key in scores] for name, summaries in results.items()}
    order = sorted(means, key=means.get)
    worst, overall = zip(*(means[name] for name in order), strict=True)
    colours = [COLOURS[1] if "car" in re.split(r"\W", name) else COLOURS[0] for name in order]
    with _figure(path, title, 1 + 0.28 * len(order)) as axes:
        axes.barh(order, worst, color=colours, height=0.6, label="worst class (red: with CAR)")
        axes.scatter(overall, order, color="#1d3557", s=18, zorder=3, label="overall")
        axes.set_xlabel("test accuracy, %")
        axes.set_xlim(0, None)
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


@contextlib.contextmanager
def _figure(path: Path, title: str, height: float) -> Iterator[Any]:
    """Axes to draw on, ``height`` inches, written to ``path`` in the end."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure = plt.figure(figsize=(8, height), dpi=150, layout="constrained")
    yield figure.add_subplot()
    figure.axes[0].set_title(title, fontsize=10)
    figure.savefig(path)
    plt.close(figure)


def _draw_classes(axes, trained: dict[str, list[dict]]) -> None:
    counts = next(iter(trained.values()))[0]["class_counts"]
    order = sorted(counts, key=counts.get, reverse=True)
    for (method, summaries), colour, marker in zip(trained.items(), COLOURS, "sov^", strict=False):
        per_class = [[summary["per_class_accuracy"][name] or 0.0 for name in order] for summary in summaries]
        means = [100 * statistics.mean(column) for column in zip(*per_class, strict=True)]
        label = f"{method}: worst class {100 * _mean_of(summaries, 'worst_class_accuracy'):.1f} %"
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
    axes.legend(loc="lower left", frameon=False)
    axes.spines["top"].set_visible(False)
    bars.spines["top"].set_visible(False)


def _mean_of(summaries: list[dict], key: str) -> float:
    return statistics.mean(summary[key] or 0.0 for summary in summaries)
