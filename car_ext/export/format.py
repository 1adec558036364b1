"""A format of an exported run. Each is one file of `car_ext.export.formats`, or of a package that adds its own."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from car_ext.errors import InputError
from car_ext.export.calibration import Calibration
from car_ext.plugins import Plugins
from car_ext.runtimes.described import Described, check_file
from car_ext.runtimes.finished_run import FinishedRun


@dataclass(frozen=True)
class Format:
    """How a run becomes a file, and the file a classifier again.

    Attributes:
        name: what `--format` calls it.
        file: what its files are called. A file is opened by the ending of its name alone, so that formats of one
            ending need the same `open`.
        save: writes a run, with `run.facts` inside the file; the calibration says which training images to use where
            any are needed.
        open: a file on a device: "auto" is the best there is, "cpu" the one that every file is tried on.
        tolerance: by how much its logits may differ from PyTorch's, as a fraction of the largest; None where it
            computes something else by design, which is for an evaluation to judge.
    """

    name: str
    file: str
    save: Callable[[FinishedRun, Path, Calibration], None]
    open: Callable[[Path, str], Described]
    tolerance: float | None

    @property
    def suffix(self) -> str:
        return Path(self.file).suffix


FORMATS: Plugins[Format] = Plugins("car_ext.export.formats", "FORMAT", "car_ext.formats")


def open_file(path: str | Path) -> Described:
    """An exported file in its runtime, chosen by the ending of its name.

    Raises:
        InputError: another ending, or as of the runtime's class.
    """
    path = Path(path)
    check_file(path)
    known = FORMATS.known().values()
    for format in known:
        if format.suffix == path.suffix:
            return format.open(path, "auto")
    endings = dict.fromkeys(format.suffix for format in known)
    raise InputError(f"{str(path)!r} is no model file: give one that ends in {', '.join(endings)}.")
