"""A form that data come in. Each is one file of `car_ext.datasets.sources`, or of a package that adds its own."""

import difflib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from car_ext.datasets.benchmarks import BENCHMARKS
from car_ext.datasets.options import DataOptions, expanded
from car_ext.datasets.split import LongTailedData
from car_ext.errors import InputError
from car_ext.plugins import Plugins

NAMES = ("digits", *BENCHMARKS)  # what can be named here without a path


@dataclass(frozen=True)
class Request:
    """What a source is asked for.

    Attributes:
        data: a name or a path, as `matches` has accepted it.
        image_size: stored height and width in pixels; None leaves them to the source.
        options: where files are.
        needs_train: False lets the training split be empty, as where a finished model is scored.
        needs_test: False lets the test split be empty, as where a part of the training images is held out.
    """

    data: str
    image_size: int | None
    options: DataOptions
    needs_train: bool
    needs_test: bool = True

    @property
    def path(self) -> Path:
        """The data as a path.

        Raises:
            InputError: as `expanded`.
        """
        return expanded(self.data)

    @property
    def root(self) -> Path:
        """The folder of `--data-root`.

        Raises:
            InputError: it was not given.
        """
        return self.options.root(self.data)


@dataclass(frozen=True)
class Source:
    """A form of data.

    Attributes:
        name: of the form.
        matches: whether a name or path is of this form; it opens no more than it must.
        load: the whole data set. What is not held in memory is an `Images`, decoded when it is asked for.
        options: which of data_root, test_list, label_column and download it has a use for; others are refused.
        names: the data sets that it knows by name.
        side: pixels of the images where no size is asked for; None where the images decide.
        imbalance_ratio: what the training split is cut to unless another is asked for; None leaves it whole.
        selection: which images a cut keeps unless another is asked for, see `longtail.imbalance`.
        general: whether it takes so much that it is asked last.
    """

    name: str
    matches: Callable[[str], bool]
    load: Callable[[Request], LongTailedData]
    options: tuple[str, ...] = ()
    names: tuple[str, ...] = ()
    side: int | None = None
    imbalance_ratio: float | None = None
    selection: str = "first"
    general: bool = False


SOURCES: Plugins[Source] = Plugins("car_ext.datasets.sources", "SOURCE", "car_ext.data")


def find_source(data: str) -> Source:
    """The source that takes a name or path.

    Raises:
        InputError: there is none.
    """
    sources = sorted(SOURCES.known().values(), key=lambda source: source.general)
    for source in sources:
        if source.matches(data):
            return source
    place = expanded(data)
    called = f"{data!r} ({place})" if data.startswith("~") else repr(data)
    if place.name != data and not place.exists():  # a path, not the name of a data set
        raise InputError(f"data {called} does not exist: check the path")
    names = dict.fromkeys((*NAMES, *(name for source in sources for name in source.names)))
    close = difflib.get_close_matches(data, names, n=1)
    fix = f"did you mean {close[0]!r}?" if close else f"check the path, or give {', '.join(names)}"
    raise InputError(f"data {called} is no image folder, .zip, .tar, .txt or .csv file or built-in name: {fix}")
