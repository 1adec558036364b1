"""Plugins are found in a package, among entry points, and by registration."""

import sys
from collections import namedtuple

import another_package
import pytest

from car_ext.errors import InputError
from car_ext.plugins import Plugins

Thing = namedtuple("Thing", "name")


@pytest.fixture
def things(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    for name in [name for name in sys.modules if name.partition(".")[0] == "things_of_a_test"]:
        monkeypatch.delitem(sys.modules, name)
    package = tmp_path / "things_of_a_test"
    package.mkdir()
    (package / "__init__.py").touch()
    for name in ("b", "a"):
        text = f"from collections import namedtuple\nTHING = namedtuple('Thing', 'name')('{name}')\n"
        (package / f"{name}.py").write_text(text)
    return Plugins("things_of_a_test", "THING", "car_ext.things")


def test_files_come_in_the_order_of_their_names_and_then_what_is_registered(things):
    assert [*things.known()] == ["a", "b"]
    added = Thing("0")
    assert things.register(added) is added
    assert [*things.known()] == ["a", "b", "0"]
    things.known().clear()  # a copy
    assert len(things.known()) == 3


def test_registering_first_hides_nothing(things):
    things.register(Thing("c"))
    assert [*things.known()] == ["a", "b", "c"]


def test_a_name_is_taken_once(things):
    with pytest.raises(ValueError, match="'a' is taken"):
        things.register(Thing("a"))
    assert len(things.known()) == 2


def test_a_package_that_does_not_load_is_named(things, tmp_path, monkeypatch):
    another_package.install(tmp_path, monkeypatch, "car_ext.things", "broken_one", "THING", "1 / 0")
    with pytest.raises(InputError, match=r"broken_one:THING, which .* does not load \(ZeroDivisionError"):
        things.known()
