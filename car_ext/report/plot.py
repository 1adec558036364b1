"""An empty figure in the page's colours, and what shows when it is pointed at."""

from typing import NamedTuple

from bokeh.models import (
    BoxZoomTool,
    HoverTool,
    PanTool,
    Range1d,
    WheelZoomTool,
)
from bokeh.plotting import figure

from car_ext.report.runs import Run

NAMED = 30  # classes up to which a figure has room for their names
INK = "ink"  # name of the glyphs that page.js paints in the colour of the text


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


def empty(x_label: str, y_label: str, x: tuple, y: tuple, height: int, zooms: bool = False, **options) -> figure:
    """Axes without anything in them, in the page's colours."""
    plot = figure(
        x_range=Range1d(*map(float, x), bounds="auto"),
        y_range=Range1d(*map(float, y), bounds="auto"),
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


def hover(plot: figure, renderer, rows: list[tuple[str, str]], run: Run | None = None) -> None:
    """What shows when pointed at. Bokeh escapes the values of columns, so the name of a run is one as well."""
    if run:
        renderer.data_source.data["run"] = [run.name] * len(next(iter(renderer.data_source.data.values())))
        rows = [("run", "@run"), *rows]
    lines = "".join(f'<div><span style="color: #5a626d">{label}</span> {value}</div>' for label, value in rows)
    shown = f'<div style="color: #1b1f24; font: 13px/1.4 system-ui, sans-serif">{lines}</div>'
    plot.add_tools(HoverTool(renderers=[renderer], tooltips=shown, point_policy="snap_to_data"))


def short(name: str) -> str:
    return name if len(name) <= 12 else f"{name[:11]}…"
