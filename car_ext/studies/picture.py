"""Runs of several methods as one picture."""

import contextlib
import re
import statistics
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

LINES = 4  # methods that can be told apart in one plot of lines
COLOURS = ("#9aa0a6", "#d1495b", "#2a9d8f", "#e9c46a")


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
    """Accuracy of the worst tenth of the classes and of all images, one row a method, the best on top; a PNG or SVG.

    Args:
        results: method name to one mapping a seed with "overall_accuracy" and "worst_10pct", fractions.
        path: of the file.
        title: above the picture.
    """
    scores = ("worst_10pct", "overall_accuracy")
    means = {name: [100 * _mean_of(summaries, key) for key in scores] for name, summaries in results.items()}
    order = sorted(means, key=means.__getitem__)
    worst, overall = zip(*(means[name] for name in order), strict=True)
    colours = [COLOURS[1] if "car" in re.split(r"\W", name) else COLOURS[0] for name in order]
    with _figure(path, title, 1 + 0.28 * len(order)) as axes:
        axes.barh(order, worst, color=colours, height=0.6, label="worst tenth of the classes (red: with CAR)")
        axes.scatter(overall, order, color="#1d3557", s=18, zorder=3, label="overall")
        axes.set_xlabel("test accuracy, %")
        axes.set_xlim(0, None)
        axes.figure.legend(loc="outside lower center", ncols=2, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)


@contextlib.contextmanager
def _figure(path: Path, title: str, height: float) -> Iterator[Any]:
    """Axes to draw on, `height` inches, written to `path` in the end."""
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


def _mean_of(summaries: Sequence[Mapping], key: str) -> float:
    return statistics.mean(summary[key] or 0.0 for summary in summaries)
