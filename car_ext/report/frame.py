"""The frame of every page: its head, its script, and what the browser may do for it."""

import base64
import hashlib
from collections.abc import Sequence
from importlib.resources import files
from typing import Any, NamedTuple

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from car_ext import __version__
from car_ext.report.cells import Table
from car_ext.report.glossary import Glossary
from car_ext.report.plot import Plot

SCRIPTS = ("tip.js", "axis.js", "plot.js", "matrix.js", "page.js")  # each of a noun, one after another a single script


class Line(NamedTuple):
    """An entry of a legend."""

    text: str
    colour: str
    kind: str = "solid"  # or dashed, area, or the name of a marker


class Figure(NamedTuple):
    title: str
    describes: str  # what a screen reader says in its place
    plot: Plot
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
    glossary = Glossary()
    environment.filters["terms"] = lambda text: glossary.mark(_joined(text))
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":")}
    script = Markup("".join(map(_own, SCRIPTS)))
    return environment.get_template(template).render(
        title=title,
        data=data,
        sections=[(name, name.capitalize()) for name in sections],
        version=__version__,
        style=Markup(_own("page.css")),
        script=script,
        policy=_policy(script),
        glossary=glossary,
        **content,
    )


def _joined(value: Any) -> Any:
    """No line ends between a number and its per cent sign; Markup, such as a script, stays as it is."""
    return value.replace(" %", "\N{NO-BREAK SPACE}%") if type(value) is str else value


def _own(name: str) -> str:
    return (files("car_ext.report") / name).read_text(encoding="utf-8")


def _policy(script: str) -> str:
    """What the browser may do for this page: run this script, and load nothing."""
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return f"default-src 'none'; script-src 'sha256-{allowed}'; style-src 'unsafe-inline'; img-src data:"
