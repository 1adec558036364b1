"""An empty figure in the page's colours, what most figures draw into it, and what shows when it is pointed at."""

from collections.abc import Sequence
from typing import Any, NamedTuple

from bokeh.models import (
    BoxZoomTool,
    ColumnDataSource,
    FixedTicker,
    HoverTool,
    PanTool,
    PlainText,
    Range1d,
    WheelZoomTool,
)
from bokeh.models.annotations.geometry import Span
from bokeh.models.renderers import GlyphRenderer
from bokeh.plotting import figure

NAMED = 30  # classes up to which a figure has room for their names
INK = "ink"  # name of the glyphs that page.js paints in the colour of the text
BOUNDS = ("95 % interval", "@low{0.0} to @high{0.0} %")  # a row that says what `whiskers` draws


class Look(NamedTuple):
    """How a figure tells a run from the others: by colour, and by marker for who cannot tell the colours."""

    colour: str
    marker: str


# Okabe and Ito's colours, which the colour-blind can tell apart; those that show on white and on black.
LOOKS = tuple(
    Look(colour, marker)
    for colour, marker in zip(
        ("#0079bf", "#d55e00", "#009e73", "#c0649b", "#8a7a00", "#3fa9dd", "#7a6fd0", "#808080"),
        ("circle", "triangle", "square", "diamond", "inverted_triangle", "star", "hex", "cross"),
        strict=True,
    )
)


def empty(
    x_label: str,
    y_label: str,
    x: tuple[float, float],
    y: tuple[float, float],
    height: int,
    zooms: bool = False,
    **options: Any,
) -> figure:
    """Axes without anything in them, in the page's colours."""
    plot = figure(
        x_range=Range1d(start=float(x[0]), end=float(x[1]), bounds="auto"),
        y_range=Range1d(start=float(y[0]), end=float(y[1]), bounds="auto"),
        x_axis_label=x_label,
        y_axis_label=y_label,
        height=height,
        sizing_mode="stretch_width",
        toolbar_location=None,
        tools=[PanTool(), BoxZoomTool(), WheelZoomTool(modifiers={"ctrl": True})] if zooms else [],
        background_fill_color=None,
        border_fill_color=None,
        outline_line_color=None,
        **options,
    )
    plot.axis.minor_tick_line_color = None
    for text in ("axis_label", "major_label"):
        setattr(plot.axis, f"{text}_text_font", "system-ui, sans-serif")
        setattr(plot.axis, f"{text}_text_font_size", "12px")
    plot.axis.axis_label_text_font_style = "normal"
    return plot


def name_ticks(axis: Any, names: Sequence[str]) -> None:
    """Names at 0, 1, 2 and so on, instead of numbers."""
    axis.ticker = FixedTicker(ticks=[*range(len(names))])
    axis.major_label_overrides = {at: PlainText(text=name) for at, name in enumerate(names)}


def border(plot: figure, at: float) -> None:
    """A dotted line from top to bottom."""
    plot.add_layout(Span(location=at, dimension="height", line_dash="dotted", css_classes=["border"]))


def whiskers(plot: figure, source: ColumnDataSource, x: str, **looks: Any) -> None:
    """The intervals of columns "low" and "high"."""
    plot.segment(x, "low", x, "high", source=source, line_width=2, **looks)


def trace(
    plot: figure, source: ColumnDataSource, x: str, y: str, look: Look, size: float, dash: str = "solid"
) -> GlyphRenderer:
    """A line through points; returns the points."""
    plot.line(x, y, source=source, color=look.colour, line_dash=dash, line_width=2)
    return plot.scatter(x, y, source=source, marker=look.marker, color=look.colour, size=size)


def hover(plot: figure, renderer: Any, rows: Sequence[tuple[str, str]], run: str | None = None) -> None:
    """What shows when pointed at; run is the name of the run where there are several.

    Bokeh escapes the values of columns, so the name of a run is one as well.
    """
    if run is not None:
        renderer.data_source.data["run"] = [run] * len(next(iter(renderer.data_source.data.values())))
        rows = [("run", "@run"), *rows]
    lines = "".join(f'<div><span style="color: #5a626d">{label}</span> {value}</div>' for label, value in rows)
    shown = f'<div style="color: #1b1f24; font: 13px/1.4 system-ui, sans-serif">{lines}</div>'
    plot.add_tools(HoverTool(renderers=[renderer], tooltips=shown, point_policy="snap_to_data"))


def short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
