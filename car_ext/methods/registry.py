"""The registry that turns names into constructors: losses, regularizers, heads, samplers, mixes, contrasts and so on.

    @register("loss", "focal", title="Focal loss", source="Lin et al., ICCV 2017", formula="-(1 - p_y)^gamma log p_y")
    class Focal(Loss):
        def __init__(self, class_counts, *, gamma: float = 2.0): ...

    build("loss", "focal:gamma=1", class_counts)

What a word can set are the constructor's keyword-only parameters with a default of a plain type.
"""

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from car_ext.errors import InputError, closest
from car_ext.values import convert


@dataclass(frozen=True)
class Method:
    """A registered constructor, and what a table of methods says of it."""

    name: str
    kind: str  # "loss", "regularizer", "head", "sampler", "mix", "contrast", "stage2" or a new one
    build: Callable[..., Any]
    title: str
    source: str  # authors, venue and year
    formula: str  # one line of ASCII
    published: str = "-"  # a published number and its setting
    notes: str = ""  # where it deviates from the source, or what it is, such as "a reconstruction"


_METHODS: dict[str, dict[str, Method]] = {}


def register(
    kind: str, name: str, *, title: str, source: str, formula: str, published: str = "-", notes: str = ""
) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Decorator that makes a class or function known as ``name`` among its ``kind``, and returns it as it was.

    Raises:
        ValueError: the name is taken, or holds a character that a word needs (``: , = +``) or a space.
    """

    def add(constructor: Callable[..., Any]) -> Callable[..., Any]:
        known = _METHODS.setdefault(kind, {})
        if name in known or set(name) & set(":,=+ "):
            raise ValueError(f"{kind} {name!r} is already registered, or holds one of ': , = +' or a space")
        known[name] = Method(name, kind, constructor, title, source, formula, published, notes)
        return constructor

    return add


def methods(kind: str) -> dict[str, Method]:
    """Name -> method of one kind, in the order of registration; empty for a kind without any."""
    return dict(_METHODS.get(kind, {}))


def options(method: Method) -> dict[str, Any]:
    """Option -> default: the constructor's keyword-only parameters with a default of a plain type."""
    return {name: default for name, (_, default) in _options(method).items()}


def parse(kind: str, spec: str) -> tuple[Method, dict[str, Any]]:
    """Read ``NAME[:key=value[,key=value...]]``, such as ``focal:gamma=2``.

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
    """Call the constructor of ``spec`` (see :func:`parse`) with ``args`` and the options of the word.

    ``options`` add to the word's and win over them; they may also name any other parameter of the constructor.

    Raises:
        InputError: as :func:`parse`; whatever the constructor raises.
    """
    method, given = parse(kind, spec)
    parameters = inspect.signature(method.build).parameters
    words = {key: value for key, value in options.items() if key not in parameters or key in _options(method)}
    return method.build(*args, **(options | given | _convert(method, words)))


_PLAIN = (bool, int, float, str)


def _options(method: Method) -> dict[str, tuple[type, Any]]:
    """Option -> its type and default."""
    parameters = inspect.signature(method.build, eval_str=True).parameters
    return {
        name: (_type(parameter), parameter.default)
        for name, parameter in parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
        and parameter.default is not parameter.empty
        and _type(parameter) in _PLAIN
    }


def _type(parameter: inspect.Parameter) -> type:
    """What the annotation says (float for ``float | None``), else the type of the default."""
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
