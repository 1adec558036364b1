"""The report of one or several runs: a single HTML file that needs no network, for a browser, a phone or paper."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from car_ext.errors import InputError
from car_ext.files import write_text
from car_ext.report.runs import Run, arranged

__all__ = ["Run", "write"]


def write(runs: Sequence[Run | Mapping[str, Any] | str | Path], out: str | Path) -> None:
    """Writes the report, several runs side by side; differences are to the first of them.

    Everything that came from outside (names of classes, runs and files) is escaped, and the page's own policy lets a
    browser load nothing and run no script but its own two.

    Args:
        runs: each the folder of a finished run, a :class:`Run`, or a mapping with its fields, of which ``name`` and
            ``summary`` are needed: {"name": "onnxruntime", "summary": evaluate(...)[0]}. What is not given is left out.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: no run; a folder without a finished run, or with damaged files; runs over different classes; an
            ``out`` whose folder does not exist.
    """
    # Bokeh takes half a second to import: only those who want a report wait for it.
    from car_ext.report.page import render

    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: its folder does not exist; create it or name another file.")
    if not runs:
        raise InputError("no run to report; give the --out folder of at least one training run.")
    read = [_run(run) for run in runs]
    for run in read[1:]:
        if run.class_names != read[0].class_names:
            raise InputError(
                f"{run.name!r} and {read[0].name!r} have different classes; give runs over the same data, "
                "or a report to each."
            )
    write_text(out, render(arranged(read)))


def _run(run: Run | Mapping[str, Any] | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return Run(**run) if isinstance(run, Mapping) else Run.read(Path(run))
