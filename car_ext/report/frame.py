"""The frame of every page: its head, its scripts, and what the browser may do for it."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from bokeh.embed import json_item
from bokeh.plotting import figure
from bokeh.resources import Resources
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from car_ext import __version__
from car_ext.report.cells import Table
from car_ext.report.glossary import Glossary


class Line(NamedTuple):
    """An entry of a legend."""

    text: str
    colour: str
    kind: str = "solid"  # or dashed, area, or the name of a marker


class Figure(NamedTuple):
    title: str
    describes: str  # what a screen reader says in its place
    plot: figure
    caption: str
    tables: Sequence[Table] = ()
    legend: Sequence[Line] = ()
    zooms: bool = False
    square: bool = False


class Number(NamedTuple):
    """A number in large letters, with what it is of, its interval and what it was, where known."""

    name: str
    text: str
    of: str
    interval: str = ""
    against: str = ""
    unit: str = "%"


class Lead(NamedTuple):
    """The few numbers that a reader came for."""

    name: str
    numbers: Sequence[Number]
    colour: str
    changes: str = ""


def page(template: str, title: str, data: str, sections: Sequence[str], **content: Any) -> str:
    """The page as one text.

    Args:
        template: its content, a file beside this one that extends frame.html.
        title: of the page.
        data: a line below it.
        sections: their ids, in order.
        content: what the template shows.
    """
    environment = Environment(
        loader=PackageLoader("car_ext.report", ""),
        autoescape=True,
        finalize=_joined,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["json_item"] = json_item
    glossary = Glossary()
    environment.filters["terms"] = lambda text: glossary.mark(_joined(text))
    # Bokeh's documents name a model where they first hold it: the order matters.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": False, "separators": (",", ":")}
    scripts = [Markup(text) for text in (_library(), _own("page.js"))]
    return environment.get_template(template).render(
        title=title,
        data=data,
        sections=[(name, name.capitalize()) for name in sections],
        version=__version__,
        style=Markup(_own("page.css")),
        scripts=scripts,
        policy=_policy(scripts),
        glossary=glossary,
        **content,
    )


def _joined(value: Any) -> Any:
    """No line ends between a number and its per cent sign; Markup, such as a script, stays as it is."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _library() -> str:
    """Bokeh's script without what a page of figures does not use."""
    return Resources(mode="inline", components=["bokeh"]).js_raw[0]


def _own(name: str) -> str:
    return (files("car_ext.report") / name).read_text(encoding="utf-8")


def _policy(scripts: Sequence[str]) -> str:
    """What the browser may do for this page: run these scripts, and load nothing."""
    hashes = [base64.b64encode(hashlib.sha256(script.encode()).digest()).decode() for script in scripts]
    allowed = " ".join(f"'sha256-{value}'" for value in hashes)
    return f"default-src 'none'; script-src {allowed}; style-src 'unsafe-inline'; img-src data:"
