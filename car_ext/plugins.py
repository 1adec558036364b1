"""What there is of one kind of thing, a data source or an export format: each a file here, or another package's."""

import importlib
import pkgutil
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Generic, Protocol, TypeVar

from car_ext.errors import InputError


class Named(Protocol):
    """Anything that is known by a name."""

    @property
    def name(self) -> str: ...


Plugin = TypeVar("Plugin", bound=Named)


class Plugins(Generic[Plugin]):
    """Every plugin of one kind by its name, looked for when it is first asked for.

    First come those of a package, one a file, in the order of the files' names; then those that installed packages
    declare as entry points; then those that were registered.

    Args:
        package: where each module holds one plugin; importing any of them must be cheap.
        attribute: what a module calls it.
        group: of the entry points, each of which loads one plugin.
    """

    def __init__(self, package: str, attribute: str, group: str) -> None:
        self.package, self.attribute, self.group = package, attribute, group
        self._known: dict[str, Plugin] = {}
        self._searched = False

    def register(self, plugin: Plugin) -> Plugin:
        """Make a plugin known as long as this process runs, and return it.

        Raises:
            ValueError: the name is taken.
        """
        return self._add(self._search(), plugin)

    def known(self) -> dict[str, Plugin]:
        """Name to plugin.

        Raises:
            InputError: one of another package cannot be loaded.
        """
        return dict(self._search())

    def _search(self) -> dict[str, Plugin]:
        if not self._searched:
            found: dict[str, Plugin] = {}
            for module in pkgutil.iter_modules(importlib.import_module(self.package).__path__):
                self._add(found, getattr(importlib.import_module(f"{self.package}.{module.name}"), self.attribute))
            for plugin in of_other_packages(self.group):
                self._add(found, plugin)
            self._known, self._searched = found, True
        return self._known

    def _add(self, known: dict[str, Plugin], plugin: Plugin) -> Plugin:
        if plugin.name in known:
            raise ValueError(f"{self.group}: {plugin.name!r} is taken; give yours another name")
        known[plugin.name] = plugin
        return plugin


def of_other_packages(group: str) -> list[Any]:
    """What installed packages declare as entry points of a group.

    Raises:
        InputError: one cannot be loaded.
    """
    return [_load(entry) for entry in sorted(entry_points(group=group), key=lambda entry: entry.value)]


def _load(entry: EntryPoint) -> Any:
    try:
        return entry.load()
    except Exception as error:  # whatever a stranger's module does when it is imported
        raise InputError(
            f"{entry.value}, which is installed beside this package, does not load ({type(error).__name__}: {error}); "
            "mend or uninstall it."
        ) from error
