"""The figures of a report, in Bokeh: its script is a quarter of the size of Plotly's, and takes its colours from CSS.

Every function returns a Bokeh figure; what the page does with it (colours of the theme, zoom, print) is page.js.
"""

from collections.abc import Sequence

import numpy as np
from bokeh.models import ColumnDataSource, FixedTicker
from bokeh.plotting import figure

from car_ext.report.groups import Groups
from car_ext.report.plot import (
    BOUNDS,
    INK,
    LOOKS,
    NAMED,
    Look,
    border,
    empty,
    hover,
    name_ticks,
    short,
    trace,
    whiskers,
)
from car_ext.report.runs import Run

RIGHT, WRONG = "#0079bf", "#d55e00"  # cells of a confusion matrix
WRITTEN = 15  # classes up to which a cell has room for its number


def look(run: Run) -> Look:
    return LOOKS[run.number % len(LOOKS)]


def accuracy_by_count(runs: Sequence[Run]) -> figure:
    """Accuracy of every class against its training images, both as the class is called when pointed at."""
    named = len(runs) == 1 and len(runs[0].class_names) <= NAMED
    plot = _over_counts(np.concatenate([run.class_counts for run in runs]), named)
    for number, run in enumerate(runs):
        few = (~np.isnan(run.accuracies)).sum() <= NAMED
        # Apart by a little, that the intervals of several runs do not hide one another.
        source = _classes(run, 1.035 ** (number - (len(runs) - 1) / 2))
        rows = [("class", "@name"), ("training images", "@count"), ("accuracy", "@y{0.0} %")]
        if run.intervals:
            rows += [BOUNDS, ("test images", "@images")]
        colour, marker = look(run)
        if run.intervals and few:
            whiskers(plot, source, "x", line_color=colour, line_alpha=0.45)
        points = plot.scatter(
            "x",
            "y",
            source=source,
            marker=marker,
            size=11 if few else 6,
            color=colour,
            fill_alpha=0.75,
            line_alpha=0.9,
        )
        hover(plot, points, rows, _named(run, runs))
    if named:
        plot.text("x", "y", text="short", source=source, x_offset=9, y_offset=-4, text_font_size="12px", name=INK)
    return plot


def bars(runs: Sequence[Run], groups: Groups) -> figure:
    """Accuracies of groups of classes, a bar for each run."""
    plot = empty("", "test accuracy, %", (-0.6, len(groups.names) - 0.4), (0, 104), height=340)
    plot.xgrid.visible = False
    name_ticks(plot.xaxis, groups.names)
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        at = np.arange(len(groups.names)) + width * (number - (len(runs) - 1) / 2)
        defined = ~np.isnan(groups.values[number])
        heights = {"y": groups.values, "low": groups.low, "high": groups.high}
        source = ColumnDataSource(
            {
                "x": at[defined],
                "group": np.array(groups.names, object)[defined],
                **{key: 100 * array[number][defined] for key, array in heights.items()},
            }
        )
        drawn = plot.vbar("x", 0.9 * width, "y", source=source, color=look(run).colour, fill_alpha=0.8)
        whiskers(plot, source, "x", name=INK)
        rows = [("of", "@group"), ("accuracy", "@y{0.0} %")]
        if not np.isnan(groups.low[number]).all():
            rows.append(BOUNDS)
        hover(plot, drawn, rows, _named(run, runs))
    return plot


def confusion_matrix(run: Run, order: np.ndarray) -> figure:
    """Every cell that occurs, blue on the diagonal and orange beside it, the stronger the larger its part of the class.

    Only those cells are in the file, at most one an image, so a thousand classes are no matter; and a cell never gets
    smaller than a pixel or two, so that none disappears.
    """
    classes = len(order)
    few = classes <= NAMED
    plot = _matrix([run.class_names[label] for label in order])
    source = _cells(run, np.argsort(order))
    size = 0.94 if few else 1
    cells = plot.rect(
        "x",
        "y",
        size,
        size,
        source=source,
        fill_color="colour",
        fill_alpha="alpha",
        line_color=None if few else "colour",
        line_alpha="alpha",
    )
    if classes <= WRITTEN:
        source.data["text"] = [f"{share:.0f}" for share in source.data["share"]]
        plot.text(
            "x",
            "y",
            text="text",
            source=source,
            text_align="center",
            text_baseline="middle",
            text_font_size="12px",
            name=INK,
        )
    rows = [("true", "@true"), ("predicted", "@predicted"), ("images", "@count"), ("of the class", "@share{0.0} %")]
    hover(plot, cells, rows)
    return plot


def curves(runs: Sequence[Run], keys: Sequence[tuple[str, str]], label: str, scale: float = 1) -> figure | None:
    """Columns of metrics.jsonl over the epochs, one (key, dash) a line; None where no run has any."""
    lines = []
    for run in runs:
        epochs = [row["epoch"] for row in run.history]
        for key, dash in keys:
            values = np.array([row.get(key) for row in run.history], np.float64) * scale
            if not np.isnan(values).all():
                lines.append((run, key, dash, epochs, values))
    if not lines:
        return None
    last = max(epochs[-1] for *_, epochs, _ in lines)
    finite = np.concatenate([values[np.isfinite(values)] for *_, values in lines])
    top = 104 if scale == 100 else 1.05 * max(finite.max(), 1e-9)
    plot = empty("epoch", label, (1 - 0.01 * last, last * 1.01), (min(0, 1.05 * finite.min()), top), height=300)
    for run, key, dash, epochs, values in lines:
        source = ColumnDataSource({"epoch": epochs, "value": values})
        points = trace(plot, source, "epoch", "value", look(run), 5 if last < 30 else 2, dash)
        rows = [("epoch", "@epoch"), (key.removeprefix("test_").replace("_", " "), "@value{0.000}")]
        hover(plot, points, rows, _named(run, runs))
    return plot


def reliability(runs: Sequence[Run]) -> figure:
    """Accuracy against confidence, bin by bin; faint bars are each bin's part of the images."""
    plot = empty("confidence, %", "test accuracy, %", (0, 100), (-2, 104), height=340)
    plot.segment(0, 0, 100, 100, line_dash="dashed", line_alpha=0.6, name=INK)
    for run in runs:
        bins = run.found.reliability
        filled = bins["count"] > 0
        middle, width = (bins["edges"][1:] + bins["edges"][:-1]) / 2, np.diff(bins["edges"])
        source = ColumnDataSource(
            {
                "middle": 100 * middle[filled],
                "width": 100 * width[filled] * 0.95,
                "share": 100 * bins["count"][filled] / max(bins["count"].sum(), 1),
                "count": bins["count"][filled],
                "confidence": 100 * bins["confidence"][filled],
                "accuracy": 100 * bins["accuracy"][filled],
            }
        )
        plot.vbar("middle", "width", "share", source=source, color=look(run).colour, fill_alpha=0.15, line_color=None)
        points = trace(plot, source, "confidence", "accuracy", look(run), 8)
        rows = [("confidence", "@confidence{0.0} %"), ("accuracy", "@accuracy{0.0} %"), ("images", "@count")]
        hover(plot, points, rows, _named(run, runs))
    return plot


def spectrum(runs: Sequence[Run]) -> figure:
    """The largest singular values of C (solid) and C Lambda (dashed)."""
    top = max(float(values.max()) for run in runs for values in run.spectrum)
    many = len(runs[0].spectrum[0])
    plot = empty("number of the singular value", "singular value", (0.5, many + 0.5), (0, 1.06 * top or 1), height=300)
    for run in runs:
        for values, dash, what in zip(run.spectrum, ("solid", "dashed"), ("plain", "weighted"), strict=True):
            source = ColumnDataSource({"number": np.arange(1, many + 1), "value": values})
            points = trace(plot, source, "number", "value", look(run), 6, dash)
            hover(plot, points, [("number", "@number"), (what, "@value{0.000}")], _named(run, runs))
    return plot


def _named(run: Run, runs: Sequence[Run]) -> str | None:
    """The run's name where a figure shows several."""
    return run.name if len(runs) > 1 else None


def _over_counts(counts: np.ndarray, named: bool) -> figure:
    """Axes for accuracy against training images; if named, with room for a name to the right of the last point."""
    room = (counts.max() / counts.min()) ** 0.15 if named else 1
    plot = empty(
        "training images of the class",
        "test accuracy, %",
        (counts.min() / 1.4, counts.max() * 1.4 * room),
        (-4, 104),
        height=420,
        x_axis_type="log",
        zooms=True,
    )
    powers = 10.0 ** np.arange(np.floor(np.log10(counts.min())), np.log10(counts.max()) + 1)
    plot.xaxis.ticker = FixedTicker(ticks=sorted({*(m * p for m in (1, 2, 5) for p in powers)}))
    plot.xgrid.ticker = plot.xaxis.ticker
    for between in (19.5, 100.5):  # few, medium and many
        border(plot, between)
    return plot


def _classes(run: Run, shift: float) -> ColumnDataSource:
    """The classes with test images."""
    tested = ~np.isnan(run.accuracies)
    values = {
        "x": run.class_counts[tested] * shift,
        "y": 100 * run.accuracies[tested],
        "name": np.array(run.class_names, object)[tested],
        "short": np.array([short(name) for name in run.class_names], object)[tested],
        "count": run.class_counts[tested],
    }
    if run.intervals and run.test_counts is not None:
        values["low"], values["high"] = (100 * bound[tested] for bound in run.intervals)
        values["images"] = run.test_counts[tested]
    return ColumnDataSource(values)


def _matrix(names: Sequence[str]) -> figure:
    """Axes for a confusion matrix of these classes."""
    classes = len(names)
    plot = empty("true class", "predicted class", (-0.5, classes - 0.5), (classes - 0.5, -0.5), height=560, zooms=True)
    plot.update(aspect_ratio=1, max_width=720, height=None)
    plot.grid.visible = False
    shown = [short(name) for name in names]
    for axis in plot.axis:
        if classes <= NAMED:
            name_ticks(axis, shown)
        else:
            axis.major_label_text_font_size = "0px"
            axis.major_tick_line_color = None
    if classes <= NAMED and classes * max(map(len, shown)) > 40:
        plot.xaxis.major_label_orientation = "vertical"
    return plot


def _cells(run: Run, places: np.ndarray) -> ColumnDataSource:
    """What occurs in a confusion matrix; (K,) places of the classes."""
    confusion, names = run.found.confusion, np.array(run.class_names, object)
    predicted, true = np.nonzero(confusion)
    counts = confusion[predicted, true]
    share = counts / confusion.sum(axis=0)[true]
    return ColumnDataSource(
        {
            "x": places[true],
            "y": places[predicted],
            "true": names[true],
            "predicted": names[predicted],
            "count": counts,
            "share": 100 * share,
            "colour": np.where(predicted == true, RIGHT, WRONG).astype(object),
            "alpha": 0.08 + 0.72 * np.sqrt(share),
        }
    )
