"""The figures of a report of runs, each a `Plot`."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from car_ext.report.charts import Chart, Curve
from car_ext.report.groups import Groups
from car_ext.report.plot import BOUNDS, INK, LOOKS, NAMED, Axis, Border, Cells, Look, Plot, Series, Tips, series, short
from car_ext.report.runs import Run

RIGHT, WRONG = "#0079bf", "#d55e00"  # cells of a confusion matrix
SEPARATE = 2000  # classes up to which each has a point of its own
SPOTS = 120, 100  # across and up, of a figure where those of more classes fall together
WRITTEN = 15  # classes up to which a cell has room for its number
SHOTS = (19.5, 100.5)  # between few, medium and many training images


def look(run: Run) -> Look:
    return LOOKS[run.number % len(LOOKS)]


def accuracy_by_count(runs: Sequence[Run]) -> Plot:
    """Accuracy of every class against its training images, both as the class is called when pointed at."""
    counts = np.concatenate([run.class_counts for run in runs])
    few = len(runs[0].class_names) <= NAMED
    # Room for a name to the right of the last point.
    room = (counts.max() / counts.min()) ** 0.15 if few else 1
    x = Axis("training images of the class", counts.min() / 1.4, counts.max() * 1.4 * room, "log")
    plot = Plot(x, Axis("test accuracy, %", -4, 104), 420, borders=[Border(at) for at in SHOTS])
    for number, run in enumerate(runs):
        tips: list[tuple[str, str]] = [("class", "{name}"), ("training images", "{count}"), ("accuracy", "{y:1} %")]
        if run.intervals:
            tips += [BOUNDS, ("test images", "{images}")]
        # Apart by a little, that the intervals of several runs do not hide one another.
        data = _classes(run, 1.035 ** (number - (len(runs) - 1) / 2))
        whiskers = look(run).colour if run.intervals and few else None
        options: dict[str, Any] = {"alpha": 0.75, "whiskers": whiskers}
        plot.series.append(series(data, look(run), 11 if few else 6, tips, _named(run, runs), **options))
    if few:
        plot.series.append(_labels(runs))
    return plot


def bars(runs: Sequence[Run], groups: Groups) -> Plot:
    """Accuracies of groups of classes, a bar for each run."""
    x = Axis("", -0.6, len(groups.names) - 0.4, names=groups.names)
    plot = Plot(x, Axis("test accuracy, %", 0, 104), 340)
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        at = np.arange(len(groups.names)) + width * (number - (len(runs) - 1) / 2)
        defined = ~np.isnan(groups.values[number])
        heights = {"y": groups.values, "low": groups.low, "high": groups.high}
        data = {
            "x": at[defined],
            "group": np.array(groups.names, object)[defined],
            **{key: 100 * array[number][defined] for key, array in heights.items()},
        }
        tips: list[tuple[str, str]] = [("of", "{group}"), ("accuracy", "{y:1} %")]
        known = not np.isnan(groups.low[number]).all()
        if known:
            tips.append(BOUNDS)
        else:
            del data["low"], data["high"]
        one = series(data, look(run), 0, tips, _named(run, runs), bar=0.9 * width, alpha=0.8)
        plot.series.append(one._replace(marker=None, whiskers=INK if known else None))
    return plot


def confusion_matrix(run: Run, order: np.ndarray) -> Plot:
    """Every cell that occurs, blue on the diagonal and orange beside it, the stronger the larger its part of the class.

    Only those cells are in the file, at most one an image, so thousands of classes are no matter; and a cell never gets
    smaller than a pixel or two, so that none disappears.

    Args:
        run: has findings.
        order: labels of the classes to show, as `order.clustered` gives them.
    """
    confusion, classes = run.found.confusion.among(order), len(order)
    names = [run.class_names[label] for label in order]
    cells = Cells(
        confusion.true,
        confusion.predicted,
        confusion.counts,
        run.found.confusion.images[order],
        names,
        (RIGHT, WRONG),
        classes <= WRITTEN,
    )
    shown = [short(name) for name in names]
    x = Axis("predicted class", -0.5, classes - 0.5, names=shown)
    return Plot(x, Axis("true class", classes - 0.5, -0.5, names=shown), cells=cells)


def curves(runs: Sequence[Run], chart: Chart) -> Plot:
    """Lines over the epochs; runs are those with a history, and some have each of the chart's curves.

    What the test images gave once, beside a line on validation images, is a point at the epoch that was kept.
    """
    lines: list[tuple[Run, Curve, np.ndarray]] = []
    for run in runs:
        for curve in chart.curves:
            values = np.array([row.get(curve.key) for row in run.history], np.float64) * chart.scale
            if np.isfinite(values).any():
                lines.append((run, curve, values))
    last = max(run.history[-1]["epoch"] for run, *_ in lines)
    finite = np.concatenate([values[np.isfinite(values)] for *_, values in lines])
    top = 104 if chart.scale == 100 else 1.05 * max(finite.max(), 1e-9)
    x, y = Axis("epoch", 1 - 0.01 * last, last * 1.01), Axis(chart.label, min(0, 1.05 * finite.min()), top)
    kept = {run.number: (run, once[0]) for run, curve, _ in lines if (once := _once(run, curve))}
    plot = Plot(x, y, borders=[Border(epoch, look(run).colour) for run, epoch in kept.values()])
    for run, curve, values in lines:
        known = np.isfinite(values)
        data = {"x": np.array([row["epoch"] for row in run.history])[known], "y": values[known]}
        tips: Tips = [("epoch", "{x}"), (curve.text, "{y:3}")]
        plot.series.append(series(data, look(run), 5 if last < 30 else 2, tips, _named(run, runs), dash=curve.dash))
        if once := _once(run, curve):
            tips = [("kept epoch", "{x}"), (curve.text.replace("validation", "test, once"), "{y:3}")]
            data = {"x": np.array(once[:1]), "y": chart.scale * np.array(once[1:])}
            plot.series.append(series(data, look(run), 14, tips, _named(run, runs)))
    return plot


def _once(run: Run, curve: Curve) -> tuple[int, float] | None:
    """The kept epoch, and what the test images gave with its weights; None where there is no such thing."""
    value = run.summary.get(curve.final) if curve.final else None
    return None if value is None or run.kept_epoch is None else (run.kept_epoch, value)


def reliability(runs: Sequence[Run]) -> Plot:
    """Accuracy against confidence, bin by bin; faint bars are each bin's part of the images."""
    plot = Plot(Axis("confidence, %", 0, 100), Axis("test accuracy, %", -2, 104), 340)
    plot.series.append(Series({"x": [0, 100], "y": [0, 100]}, INK, dash="dashed", alpha=0.6))
    for run in runs:
        bins = run.found.reliability
        filled = bins["count"] > 0
        middle, width = (bins["edges"][1:] + bins["edges"][:-1]) / 2, np.diff(bins["edges"])
        share = bins["count"][filled] / max(bins["count"].sum(), 1)
        data = {"x": 100 * middle[filled], "y": 100 * share}
        plot.series.append(Series(data, look(run).colour, bar=95 * float(width.mean()), alpha=0.15))
        points = {
            "x": 100 * bins["confidence"][filled],
            "y": 100 * bins["accuracy"][filled],
            "count": bins["count"][filled],
        }
        tips: Tips = [("confidence", "{x:1} %"), ("accuracy", "{y:1} %"), ("images", "{count}")]
        plot.series.append(series(points, look(run), 8, tips, _named(run, runs), dash="solid"))
    return plot


def spectrum(runs: Sequence[Run]) -> Plot:
    """The largest singular values of C (solid) and C Lambda (dashed)."""
    top = max(float(values.max()) for run in runs for values in run.spectrum)
    many = len(runs[0].spectrum[0])
    x = Axis("number of the singular value", 0.5, many + 0.5)
    plot = Plot(x, Axis("singular value", 0, 1.06 * top or 1))
    for run in runs:
        for values, dash, what in zip(run.spectrum, ("solid", "dashed"), ("plain", "weighted"), strict=True):
            data = {"x": np.arange(1, many + 1), "y": values}
            tips = [("number", "{x}"), (what, "{y:3}")]
            plot.series.append(series(data, look(run), 6, tips, _named(run, runs), dash=dash))
    return plot


def _named(run: Run, runs: Sequence[Run]) -> str | None:
    """The run's name where a figure shows several."""
    return run.name if len(runs) > 1 else None


def _classes(run: Run, shift: float) -> dict[str, Any]:
    """The classes with test images; of more than `SEPARATE` those that fall together are one point."""
    tested = ~np.isnan(run.accuracies)
    values = {
        "x": run.class_counts[tested] * shift,
        "y": 100 * run.accuracies[tested],
        "name": np.array(run.class_names, object)[tested],
        "count": run.class_counts[tested],
    }
    if run.intervals and run.test_counts is not None:
        values["low"], values["high"] = (100 * bound[tested] for bound in run.intervals)
        values["images"] = run.test_counts[tested]
    return values if tested.sum() <= SEPARATE else _together(values)


def _together(values: dict[str, Any]) -> dict[str, Any]:
    """The first of the classes in each spot of a grid as fine as pixels, with how many are there besides."""
    span = np.ptp(np.log(values["x"])) or 1
    across = np.round((np.log(values["x"]) - np.log(values["x"].min())) / span * SPOTS[0]).astype(np.int64)
    up = np.round(values["y"] / 100 * SPOTS[1]).astype(np.int64)
    _, first, classes = np.unique(across * (SPOTS[1] + 1) + up, return_index=True, return_counts=True)
    kept = {key: column[first] for key, column in values.items()}
    more = (f" and {count - 1:,} more" if count > 1 else "" for count in classes)
    return kept | {"name": np.array([f"{name}{rest}" for name, rest in zip(kept["name"], more, strict=True)], object)}


def _labels(runs: Sequence[Run]) -> Series:
    """The classes' names, each once, at the best of the runs."""
    stacked = np.stack([run.accuracies for run in runs])
    tested = ~np.isnan(stacked).all(axis=0)
    data = {
        "x": runs[0].class_counts[tested],
        "y": 100 * np.nanmax(stacked[:, tested], axis=0),
        "short": [short(name) for name, shown in zip(runs[0].class_names, tested, strict=True) if shown],
    }
    return Series(data, INK, labels="short")
