"""Names and words become constructors with options of the right type, or a sentence that says why not."""

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from car_ext.errors import InputError
from car_ext.methods.registry import build, methods, options, parse, register

KIND = "thing"  # a kind of this file alone


@register(KIND, "plain", title="Plain", source="nobody, 2000", formula="x")
class Plain:
    def __init__(
        self,
        counts=None,
        reduction="mean",
        *,
        gamma: float = 2.0,
        steps: int = 3,
        hard: bool = False,
        form="a",
        limit: float | None = None,
        hook=print,
        milestones: Sequence[int] = (),
    ):
        self.given = {"gamma": gamma, "steps": steps, "hard": hard, "form": form, "limit": limit}
        self.counts, self.reduction = counts, reduction


@register(KIND, "bare", title="Bare", source="nobody, 2001", formula="0", published="99.9", notes="a reconstruction")
def bare(counts):
    return counts


DEFAULTS = {"gamma": 2.0, "steps": 3, "hard": False, "form": "a", "limit": None}


def test_methods_know_what_was_registered():
    assert list(methods(KIND)) == ["bare", "plain"]  # by name, not in the order of registration
    method = methods(KIND)["bare"]
    assert (method.name, method.kind, method.build) == ("bare", KIND, bare)
    assert (method.title, method.source, method.formula) == ("Bare", "nobody, 2001", "0")
    assert (method.published, method.notes) == ("99.9", "a reconstruction")
    assert methods(KIND)["plain"].published == "-"
    assert methods("no such kind") == {}


def test_methods_is_a_copy():
    methods(KIND).clear()
    assert "plain" in methods(KIND)


def test_options_are_the_keyword_only_parameters_of_a_plain_type():
    assert options(methods(KIND)["plain"]) == DEFAULTS
    assert options(methods(KIND)["bare"]) == {}


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        ("plain", {}),
        ("plain:gamma=1", {"gamma": 1.0}),
        ("plain:gamma=1e-3,steps=4,hard=yes,form=b", {"gamma": 1e-3, "steps": 4, "hard": True, "form": "b"}),
        ("plain:limit=0.5", {"limit": 0.5}),
        ("plain:limit=none", {"limit": None}),
        ("plain:form=ldam:scale=2", {"form": "ldam:scale=2"}),  # only the first = and : belong to the outer word
    ],
)
def test_words(spec, expected):
    method, given = parse(KIND, spec)
    assert method.name == "plain"
    assert given == expected
    assert [type(value) for value in given.values()] == [type(value) for value in expected.values()]
    assert build(KIND, spec).given == DEFAULTS | expected


@given(st.floats(allow_nan=False), st.integers(), st.booleans())
def test_a_word_made_from_values_gives_the_values_back(gamma, steps, hard):
    _, given = parse(KIND, f"plain:gamma={gamma},steps={steps},hard={hard}")
    assert given == {"gamma": gamma, "steps": steps, "hard": hard}


def test_options_given_to_build_win_over_the_word():
    thing = build(KIND, "plain:gamma=1,steps=9", [5, 3], gamma=4, reduction="none")
    assert thing.given == DEFAULTS | {"gamma": 4.0, "steps": 9}
    assert isinstance(thing.given["gamma"], float)
    assert (thing.counts, thing.reduction) == ([5, 3], "none")


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("plian", "'plian' is not a thing; there are bare, plain; did you mean plain?"),
        ("", "'' is not a thing; there are bare, plain"),
        (
            "plain:gama=1",
            "gama of thing 'plain' is not an option; it takes gamma=2.0, steps=3, hard=false, form=a, limit=none; "
            "did you mean gamma?",
        ),
        ("plain:reduction=none", "reduction of thing 'plain' is not an option"),
        ("bare:x=1", "x of thing 'bare' is not an option; it takes no options"),
        ("plain:gamma=big", "gamma of thing 'plain' is 'big', but must be a number"),
        ("plain:gamma=none", "gamma of thing 'plain' is 'none', but must be a number"),
        ("plain:steps=1.5", "steps of thing 'plain' is '1.5', but must be a whole number"),
        ("plain:hard=2", "hard of thing 'plain' is '2', but must be true or false"),
        ("plain:", "holds '', but options are written plain:key=value"),
        ("plain:gamma", "holds 'gamma', but options are written plain:key=value"),
        ("plain:gamma=1,gamma=2", "gives gamma twice"),
    ],
)
def test_bad_words_are_named(spec, message):
    with pytest.raises(InputError) as caught:
        build(KIND, spec)
    assert message in str(caught.value)


def test_a_bad_option_of_build_is_named():
    with pytest.raises(InputError, match="gama of thing 'plain' is not an option"):
        build(KIND, "plain", gama=1)
    with pytest.raises(InputError, match=r"steps of thing 'plain' is 1\.5, but must be a whole number"):
        build(KIND, "plain", steps=1.5)


def test_a_kind_without_methods():
    with pytest.raises(InputError, match="'x' is not a nothing; there are none"):
        parse("nothing", "x")


@pytest.mark.parametrize("name", ["plain", "a:b", "a b", "a+b", "a=b", "a,b"])
def test_a_name_that_is_taken_or_unwritable(name):
    with pytest.raises(ValueError, match="already registered, or holds"):
        register(KIND, name, title="", source="", formula="")(bare)
