"""Reports, each a single HTML file that needs no network: of one or several runs, and of a deployed model over time."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from car_ext.errors import InputError
from car_ext.files import write_text
from car_ext.report.runs import Run, arranged

if TYPE_CHECKING:
    import numpy as np

    from car_ext.metrics.label_issues import LabelIssues

__all__ = ["Run", "write", "write_choice", "write_label_issues", "write_monitoring", "write_survey"]


def write(runs: Sequence[Run | Mapping[str, Any] | str | Path], out: str | Path) -> None:
    """Writes the report, several runs side by side; differences are to the first of them.

    Everything that came from outside (names of classes, runs and files) is escaped, and the page's own policy lets a
    browser load nothing and run no script but its own.

    Args:
        runs: each the folder of a finished run, a `Run`, or a mapping with its fields, of which `name` and
            `summary` are needed; what is not given is left out. Of a `car_ext.evaluation.evaluate.Evaluation`:
            `Run("onnxruntime", evaluation.summary, evaluation.findings)`.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: no run; a folder without a finished run, or with damaged files; runs over different classes; an
            `out` whose folder does not exist.
    """
    out = _writable(out)
    if not runs:
        raise InputError("no run to report; give the --out folder of at least one training run.")
    read = [_run(run) for run in runs]
    for run in read[1:]:
        if run.class_names != read[0].class_names:
            raise InputError(
                f"{run.name!r} and {read[0].name!r} have different classes; give runs over the same data, "
                "or a report to each."
            )
    from car_ext.report.page import render  # only those wait for the template engine whose runs can be drawn

    write_text(out, render(arranged(read)))


def write_monitoring(log: str | Path, out: str | Path) -> None:
    """Writes the page of a log of `examples/monitor.py`, with the same policy as `write`.

    Args:
        log: a line of JSON for each batch of pictures: "time" (ISO 8601), "model", "predicted" (class name to images),
            "mean_confidence", and where they are known "class_counts" (class name to training images), and of a batch
            with labels "true" and "correct" (class name to images, and to those recognised) and "unlabelled" (images
            without one, where some are). Other keys are left alone.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: no log, a line of another kind, or an `out` whose folder does not exist. A last line that was
            interrupted is left out, and the page says so.
    """
    from car_ext.report.monitoring.log import Log

    out, log = _writable(out), Path(log)
    read = Log.read(log)
    from car_ext.report.monitoring.page import render  # as above

    write_text(out, render(read, log.name))


def write_label_issues(issues: "LabelIssues", images: Mapping[str, "np.ndarray"], source: str, out: str | Path) -> None:
    """Writes the page of labels that are likely wrong, with the same policy as `write`.

    Args:
        issues: what was found.
        images: name to pixels, uint8 (H, W, C), of those whose pictures are known.
        source: what the labels were judged by, for the title.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: an `out` whose folder does not exist.
    """
    out = _writable(out)
    from car_ext.report.label_issues import render

    write_text(out, render(issues, images, source))


def write_survey(facts: Mapping[str, Any], pictures: Mapping[tuple[str, int], "np.ndarray"], out: str | Path) -> None:
    """Writes the page of a data set, with the same policy as `write`.

    Args:
        facts: as of `car_ext.datasets.survey.survey`.
        pictures: some images by split and position, each (H, W, C) uint8.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: an `out` whose folder does not exist.
    """
    out = _writable(out)
    from car_ext.report.survey import render

    write_text(out, render(facts, pictures))


def write_choice(facts: Mapping[str, Any], out: str | Path) -> None:
    """Writes the page of an automatic choice, with the same policy as `write`.

    Args:
        facts: as of `car_ext.automatic.outcome.Outcome`.
        out: the file to write, replaced if it exists.

    Raises:
        InputError: an `out` whose folder does not exist.
    """
    out = _writable(out)
    from car_ext.report.choice import render

    write_text(out, render(facts))


def _writable(out: str | Path) -> Path:
    out = Path(out)
    if not out.absolute().parent.is_dir():
        raise InputError(f"--out {out}: its folder does not exist; create it or name another file.")
    return out


def _run(run: Run | Mapping[str, Any] | str | Path) -> Run:
    if isinstance(run, Run):
        return run
    return Run(**run) if isinstance(run, Mapping) else Run.read(Path(run))
