"""The registry that turns names into constructors: losses, regularizers, heads, samplers, mixes, contrasts and so on.

    @register("loss", "focal", title="Focal loss", source="Lin et al., ICCV 2017", formula="-(1 - p_y)^gamma log p_y")
    class Focal(Loss):
        def __init__(self, class_counts, *, gamma: float = 2.0): ...

    build("loss", "focal:gamma=1", class_counts)

What a word can set are the constructor's keyword-only parameters with a default of a plain type, or those of the
dataclass that it is registered with as `options`.

Nobody lists the methods: before the first look at the registry every module below `car_ext.methods` is imported, then
every entry point of the group `car_ext.methods`, by which another package adds its own:

    [project.entry-points."car_ext.methods"]
    mine = "my_package.my_losses"
"""

import functools
import importlib
import inspect
import pkgutil
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

from car_ext.errors import InputError, closest
from car_ext.plugins import of_other_packages
from car_ext.values import convert


@dataclass(frozen=True)
class Method:
    """A registered constructor, and what a table of methods says of it."""

    name: str
    kind: str  # "loss", "weighting", "regularizer", "head", "sampler", "mix", "contrast", "stage2" or another
    build: Callable[..., Any]
    title: str
    source: str  # authors, venue and year
    formula: str  # one line of ASCII
    published: str = "-"  # a published number and its setting
    notes: str = ""  # where it deviates from the source, or what it is, such as "a reconstruction"
    options: type | None = None  # a dataclass of what a word can set


GROUP = "car_ext.methods"  # of entry points, and the package
_Constructor = TypeVar("_Constructor", bound=Callable[..., Any])
_METHODS: dict[str, dict[str, Method]] = {}


def register(
    kind: str,
    name: str,
    *,
    title: str,
    source: str,
    formula: str,
    published: str = "-",
    notes: str = "",
    options: type | None = None,
) -> Callable[[_Constructor], _Constructor]:
    """Decorator that makes a class or function known as `name` among its `kind`, and returns it as it was.

    Args:
        kind: "loss", "weighting", "regularizer", "head", "sampler", "mix", "contrast", "stage2" or a new one.
        name: the word.
        title: what the method is called.
        source: authors, venue and year.
        formula: one line of ASCII.
        published: a published number and its setting.
        notes: where it deviates from the source, or what it is, such as "a reconstruction".
        options: a dataclass of keyword-only fields with defaults, where the constructor's own parameters are not what
            a word can set.

    Raises:
        ValueError: the name is taken, or holds a character that a word needs (`: , = +`) or a space.
    """

    def add(constructor: _Constructor) -> _Constructor:
        known = _METHODS.setdefault(kind, {})
        if name in known or set(name) & set(":,=+ "):
            raise ValueError(f"{kind} {name!r} is already registered, or holds one of ': , = +' or a space")
        known[name] = Method(name, kind, constructor, title, source, formula, published, notes, options)
        return constructor

    return add


def methods(kind: str) -> dict[str, Method]:
    """Name -> method of one kind, by name; empty for a kind without any.

    Raises:
        InputError: the methods of another package cannot be loaded.
    """
    _discover()
    return dict(sorted(_METHODS.get(kind, {}).items()))


def options(method: Method) -> dict[str, Any]:
    """Option -> default of what a word can set."""
    return {name: default for name, (_, default) in _options(method).items()}


def parse(kind: str, spec: str) -> tuple[Method, dict[str, Any]]:
    """Read `NAME[:key=value[,key=value...]]`, such as `focal:gamma=2`.

    Returns:
        The method and the options given, converted to the types of their parameters.

    Raises:
        InputError: an unknown name or option, an option given twice, a value of another type.
    """
    name, colon, rest = spec.partition(":")
    known = methods(kind)
    if name not in known:
        raise InputError(f"{name!r} is not a {kind}; there are {', '.join(known) or 'none'}{closest(name, known)}")
    given: dict[str, Any] = {}
    for assignment in rest.split(",") if colon else ():
        key, equals, value = assignment.partition("=")
        if not equals:
            raise InputError(
                f"{kind} {spec!r} holds {assignment!r}, but options are written {name}:key=value,key=value"
            )
        if key in given:
            raise InputError(f"{kind} {spec!r} gives {key} twice; keep one")
        given[key] = value
    return known[name], _convert(known[name], given)


def build(kind: str, spec: str, *args: Any, **options: Any) -> Any:
    """Call the constructor of `spec` (see `parse`) with `args` and the options of the word.

    `options` add to the word's and win over them; they may also name any other parameter of the constructor.

    Raises:
        InputError: as `parse`; whatever the constructor raises.
    """
    method, given = parse(kind, spec)
    parameters = inspect.signature(method.build).parameters
    words = {key: value for key, value in options.items() if key not in parameters or key in _options(method)}
    return method.build(*args, **(options | given | _convert(method, words)))


@functools.cache
def _discover() -> None:
    """Import whatever registers a method: the modules of the package, then those of others.

    Raises:
        InputError: a module of another package that fails.
    """
    for module in pkgutil.walk_packages(importlib.import_module(GROUP).__path__, f"{GROUP}."):
        importlib.import_module(module.name)
    of_other_packages(GROUP)


_PLAIN = (bool, int, float, str)


def _options(method: Method) -> dict[str, tuple[type, Any]]:
    """Option -> its type and default."""
    parameters = inspect.signature(method.options or method.build, eval_str=True).parameters
    return {
        name: (_type(parameter), parameter.default)
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is not parameter.empty
        and _type(parameter) in _PLAIN
    }


def _type(parameter: inspect.Parameter) -> type:
    """What the annotation says (float for `float | None`), else the type of the default."""
    union = typing.get_origin(parameter.annotation) in (types.UnionType, typing.Union)
    said = typing.get_args(parameter.annotation) if union else (parameter.annotation,)
    return next((kind for kind in said if kind in _PLAIN), type(parameter.default))


def _convert(method: Method, given: dict[str, Any]) -> dict[str, Any]:
    takes, converted = _options(method), {}
    for key, value in given.items():
        where = f"{key} of {method.kind} {method.name!r}"
        if key not in takes:
            listed = ", ".join(f"{name}={_text(default)}" for name, (_, default) in takes.items()) or "no options"
            raise InputError(f"{where} is not an option; it takes {listed}{closest(key, takes)}")
        kind, default = takes[key]
        undecided = default is None and (value is None or value == _text(None))
        converted[key] = None if undecided else convert(value, kind, where)
    return converted


def _text(value: Any) -> str:
    """A default as one would write it in a word."""
    return str(value).lower() if value is None or isinstance(value, bool) else str(value)
