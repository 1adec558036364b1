"""The figures of a report, in Bokeh: its script is a quarter of the size of Plotly's, and takes its colours from CSS.

Every function returns a Bokeh figure; what the page does with it (colours of the theme, zoom, print) is page.js.
"""

from collections.abc import Sequence

import numpy as np
from bokeh.models import (
    ColumnDataSource,
    FixedTicker,
    PlainText,
    Span,
)
from bokeh.plotting import figure

from car_ext.metrics.bounds import singular_values
from car_ext.metrics.summary import R0
from car_ext.priors import spectral_weights
from car_ext.report.plot import INK, LOOKS, NAMED, Look, empty, hover, short
from car_ext.report.runs import Run

RIGHT, WRONG = "#0079bf", "#d55e00"  # cells of a confusion matrix


def look(run: Run) -> Look:
    return LOOKS[run.number % len(LOOKS)]


def accuracy_by_count(runs: Sequence[Run]) -> figure:
    """Accuracy of every class against its training images, both as the class is called when pointed at."""
    counts = np.concatenate([run.class_counts for run in runs])
    named = len(runs) == 1 and len(runs[0].class_names) <= NAMED
    # To the right of the last point there must be room for its name.
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
    for border in (19.5, 100.5):  # between few, medium and many
        plot.add_layout(Span(location=border, dimension="height", line_dash="dotted", css_classes=["border"]))
    for number, run in enumerate(runs):
        tested = ~np.isnan(run.accuracies)
        # Apart by a little, that the intervals of several runs do not hide one another.
        values = {
            "x": run.class_counts[tested] * 1.035 ** (number - (len(runs) - 1) / 2),
            "y": 100 * run.accuracies[tested],
            "name": np.array(run.class_names, object)[tested],
            "short": np.array([short(name) for name in run.class_names], object)[tested],
            "count": run.class_counts[tested],
        }
        rows = [("class", "@name"), ("training images", "@count"), ("accuracy", "@y{0.0} %")]
        if run.intervals:
            values["low"], values["high"] = (100 * bound[tested] for bound in run.intervals)
            values["images"] = run.test_counts[tested]
            rows += [("95 % interval", "@low{0.0} to @high{0.0} %"), ("test images", "@images")]
        source = ColumnDataSource(values)
        colour, marker = look(run)
        if run.intervals and tested.sum() <= NAMED:
            plot.segment("x", "low", "x", "high", source=source, line_color=colour, line_alpha=0.45, line_width=2)
        size = 11 if tested.sum() <= NAMED else 6
        points = plot.scatter(
            "x", "y", source=source, marker=marker, size=size, color=colour, fill_alpha=0.75, line_alpha=0.9
        )
        hover(plot, points, rows, run if len(runs) > 1 else None)
    if named:
        plot.text("x", "y", text="short", source=source, x_offset=9, y_offset=-4, text_font_size="12px", name=INK)
    return plot


def bars(runs: Sequence[Run], groups: Sequence[str], values: np.ndarray, low: np.ndarray, high: np.ndarray) -> figure:
    """Accuracies of groups of classes, a bar for each run; (R, G) fractions, NaN where undefined."""
    plot = empty("", "test accuracy, %", (-0.6, len(groups) - 0.4), (0, 104), height=340)
    plot.xgrid.visible = False
    plot.xaxis.ticker = FixedTicker(ticks=[*range(len(groups))])
    plot.xaxis.major_label_overrides = {at: PlainText(text=group) for at, group in enumerate(groups)}
    width = 0.8 / len(runs)
    for number, run in enumerate(runs):
        at = np.arange(len(groups)) + width * (number - (len(runs) - 1) / 2)
        defined = ~np.isnan(values[number])
        source = ColumnDataSource(
            {
                "x": at[defined],
                "group": np.array(groups, object)[defined],
                **{key: 100 * array[number][defined] for key, array in (("y", values), ("low", low), ("high", high))},
            }
        )
        drawn = plot.vbar("x", 0.9 * width, "y", source=source, color=look(run).colour, fill_alpha=0.8)
        plot.segment("x", "low", "x", "high", source=source, line_width=2, name=INK)
        rows = [("accuracy", "@y{0.0} %")]
        if not np.isnan(low[number]).all():
            rows.append(("95 % interval", "@low{0.0} to @high{0.0} %"))
        hover(plot, drawn, [("of", "@group"), *rows], run if len(runs) > 1 else None)
    return plot


def confusion_matrix(run: Run, order: np.ndarray) -> figure:
    """Every cell that occurs, blue on the diagonal and orange beside it, the stronger the larger its part of the class.

    Only those cells are in the file, at most one an image, so a thousand classes are no matter; and a cell never gets
    smaller than a pixel or two, so that none disappears.
    """
    confusion, classes = run.findings.confusion, len(order)
    places = np.argsort(order)
    predicted, true = np.nonzero(confusion)
    counts = confusion[predicted, true]
    share = counts / run.test_counts[true]
    names = np.array(run.class_names, object)
    plot = empty("true class", "predicted class", (-0.5, classes - 0.5), (classes - 0.5, -0.5), height=560, zooms=True)
    plot.update(aspect_ratio=1, max_width=720, height=None)
    plot.grid.visible = False
    for axis in plot.axis:
        if classes <= NAMED:
            axis.ticker = FixedTicker(ticks=[*range(classes)])
            axis.major_label_overrides = {
                place: PlainText(text=short(names[label])) for place, label in enumerate(order)
            }
        else:
            axis.major_label_text_font_size = "0px"
            axis.major_tick_line_color = None
    if classes <= NAMED and classes * max(len(short(name)) for name in names) > 40:
        plot.xaxis.major_label_orientation = "vertical"
    colours = np.where(predicted == true, RIGHT, WRONG).astype(object)
    source = ColumnDataSource(
        {
            "x": places[true],
            "y": places[predicted],
            "true": names[true],
            "predicted": names[predicted],
            "count": counts,
            "share": 100 * share,
            "colour": colours,
            "alpha": 0.08 + 0.72 * np.sqrt(share),
        }
    )
    cells = plot.rect(
        "x",
        "y",
        1 if classes > NAMED else 0.94,
        1 if classes > NAMED else 0.94,
        source=source,
        fill_color="colour",
        fill_alpha="alpha",
        line_color="colour" if classes > NAMED else None,
        line_alpha="alpha",
    )
    if classes <= 15:
        source.data["text"] = [f"{100 * part:.0f}" for part in share]
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
        colour, marker = look(run)
        plot.line("epoch", "value", source=source, color=colour, line_width=2, line_dash=dash)
        points = plot.scatter("epoch", "value", source=source, marker=marker, color=colour, size=5 if last < 30 else 2)
        rows = [("epoch", "@epoch"), (key.removeprefix("test_").replace("_", " "), "@value{0.000}")]
        hover(plot, points, rows, run if len(runs) > 1 else None)
    return plot


def reliability(runs: Sequence[Run]) -> figure:
    """Accuracy against confidence, bin by bin; faint bars are each bin's part of the images."""
    plot = empty("confidence, %", "test accuracy, %", (0, 100), (-2, 104), height=340)
    plot.segment(0, 0, 100, 100, line_dash="dashed", line_alpha=0.6, name=INK)
    for run in runs:
        bins = run.findings.reliability
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
        colour, marker = look(run)
        plot.vbar("middle", "width", "share", source=source, color=colour, fill_alpha=0.15, line_color=None)
        plot.line("confidence", "accuracy", source=source, color=colour, line_width=2)
        points = plot.scatter("confidence", "accuracy", source=source, marker=marker, size=8, color=colour)
        rows = [("confidence", "@confidence{0.0} %"), ("accuracy", "@accuracy{0.0} %"), ("images", "@count")]
        hover(plot, points, rows, run if len(runs) > 1 else None)
    return plot


def spectrum(runs: Sequence[Run]) -> tuple[figure, list[tuple[np.ndarray, np.ndarray]]]:
    """The largest singular values of C (solid) and C Lambda (dashed), and these values for each run."""
    values = [
        (
            singular_values(run.findings.confusion, np.ones(len(run.class_names))),
            singular_values(run.findings.confusion, spectral_weights(run.class_counts, R0)),
        )
        for run in runs
    ]
    top = max(float(array.max()) for pair in values for array in pair)
    many = len(values[0][0])
    plot = empty("number of the singular value", "singular value", (0.5, many + 0.5), (0, 1.06 * top or 1), height=300)
    for run, pair in zip(runs, values, strict=True):
        for array, dash, what in zip(pair, ("solid", "dashed"), ("plain", "weighted"), strict=True):
            source = ColumnDataSource({"number": np.arange(1, many + 1), "value": array})
            colour, marker = look(run)
            plot.line("number", "value", source=source, color=colour, line_dash=dash, line_width=2)
            points = plot.scatter("number", "value", source=source, color=colour, marker=marker, size=6)
            hover(plot, points, [("number", "@number"), (what, "@value{0.000}")], run if len(runs) > 1 else None)
    return plot, values
