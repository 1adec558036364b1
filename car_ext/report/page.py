"""The page of runs: what stands where, and in which words."""

from collections.abc import Iterable, Sequence

import numpy as np

from car_ext.metrics.confusions import Confusions
from car_ext.metrics.mistakes import MOST_CONFIDENT
from car_ext.report import figures
from car_ext.report.advice import advice
from car_ext.report.cells import percent
from car_ext.report.charts import Chart, charts
from car_ext.report.frame import Figure, Line, page
from car_ext.report.groups import Groups
from car_ext.report.leads import lead
from car_ext.report.order import clustered
from car_ext.report.pictures import pictures
from car_ext.report.plot import NAMED
from car_ext.report.runs import Run
from car_ext.report.tables import calibration, classes, confusions, gate, scores, setup, training
from car_ext.text import printable


def render(runs: Sequence[Run]) -> str:
    """The page as one text; runs have names of their own and the same classes."""
    found = [run for run in runs if run.findings]
    return page(
        "page.html",
        f"Report: {' against '.join(run.name for run in runs[:3])}{' and more' if len(runs) > 3 else ''}",
        _data(runs),
        _sections(runs),
        several=len(runs) > 1,
        leads=[lead(run, runs[0]) for run in runs],
        advice=advice(runs),
        gates=[verdict for run in runs if (verdict := gate.verdict(run))],
        scores=scores.table(runs),
        priors=scores.priors(runs),
        speeds=scores.speeds(runs),
        accuracies=_accuracies(runs),
        groups=_groups(runs),
        changes=[table for run in runs[1:] if (table := classes.changes(run, runs[0]))],
        matrices=_matrices(found),
        pairs=[(run, confusions.pairs(run, runs), pictures(run)) for run in found],
        most_confident=MOST_CONFIDENT,
        curves=_curves(runs),
        averages=training.averages(runs),
        calibration=_calibration(runs, found) if found else None,
        temperatures=[(run.name, text) for run in runs if (text := calibration.temperature(run))],
        conformal=[table for run in runs if (table := calibration.conformal(run))],
        spectrum=_spectrum(runs, found) if found else None,
        without=[run.name for run in runs if not run.findings],
        notes=_notes(runs),
        setup=setup.table(runs),
    )


def _data(runs: Sequence[Run]) -> str:
    """What the runs were trained and tested on."""
    names = dict.fromkeys(printable(str(run.summary["data"])) for run in runs if run.summary.get("data"))
    counts = runs[0].class_counts
    return (
        f"{', '.join(names) or 'Data'}: {len(counts)} classes with {counts.max():,} to {counts.min():,} training images"
    )


def _notes(runs: Sequence[Run]) -> list[str]:
    """On the data; those of several runs over the same data once."""
    return [*dict.fromkeys(printable(str(note)) for run in runs for note in run.summary.get("data_notes") or ())]


def _sections(runs: Sequence[Run]) -> list[str]:
    found, trained = any(run.findings for run in runs), any(run.history for run in runs)
    present = {"confusions": found, "training": trained, "calibration": found, "spectrum": found}
    names = ("scores", "classes", "confusions", "training", "calibration", "spectrum", "setup")
    return [name for name in names if present.get(name, True)]


def _accuracies(runs: Sequence[Run]) -> Figure:
    tested = [run for run in runs if run.worst_class is not None]
    said = "; ".join(
        f"{run.name}: from {percent(np.nanmin(run.accuracies))} % ({run.worst_name}) "
        f"to {percent(np.nanmax(run.accuracies))} %"
        for run in tested
    )
    few = len(runs[0].class_names) <= NAMED
    return Figure(
        "Accuracy of every class against its training images",
        f"Points, one a class, training images across and test accuracy up. {said}.",
        figures.accuracy_by_count(runs),
        (
            "A point is a class; point at it for its name."
            if max(len(run.worst_first) for run in runs) <= figures.SEPARATE
            else "A point is a class, or several that fall together; point at it for the name of the first and how "
            "many there are."
        )
        + (" Bars are 95 % Wilson intervals." if few and any(run.intervals for run in runs) else "")
        + " Dotted lines part few, medium and many training images (20 and 100).",
        [classes.table(runs)],
        _legend(runs, tested),
        zooms=True,
    )


def _groups(runs: Sequence[Run]) -> Figure:
    groups = Groups.of(runs)
    said = "; ".join(
        f"{run.name}: "
        + ", ".join(
            f"{name} {percent(value)} %"
            for name, value in zip(groups.names, values, strict=True)
            if not np.isnan(value)
        )
        for run, values in zip(runs, groups.values, strict=True)
    )
    return Figure(
        "Groups of classes and the worst one",
        f"Bars of test accuracy. {said}.",
        figures.bars(runs, groups),
        "Means over the classes with over 100 (many), 20 to 100 (medium) and under 20 (few) training images."
        + (
            " Lines are 95 % Wilson intervals. The worst classes were picked after looking, so their own intervals lie "
            "somewhat too low."
            if groups.known
            else ""
        ),
        [classes.groups(runs, groups)],
        [Line(run.name, figures.look(run).colour, "area") for run in runs] if len(runs) > 1 else (),
    )


def _matrices(found: Sequence[Run]) -> list[Figure]:
    order = clustered([run.found.confusion for run in found]) if found else np.arange(0)
    return [_matrix(run, order) for run in found]


def _matrix(run: Run, order: np.ndarray) -> Figure:
    confusion = run.found.confusion
    right = int(confusion.right.sum())
    wrong = int(confusion.counts.sum()) - right
    first = confusions.pairs(run, [run])[:3]
    said = "; ".join(f"{pair.true} taken for {pair.predicted}, {pair.share}" for pair in first)
    return Figure(
        run.name,
        f"Confusion matrix of {len(confusion)} classes: {right} images right, {wrong} wrong. {said}.",
        figures.confusion_matrix(run, order),
        "Rows are true classes, columns what they are taken for; a button turns that. Blue is right, orange is wrong; "
        "the stronger, the larger the part of the true class."
        + (" Numbers are per cent of the true class." if len(order) <= figures.WRITTEN else "")
        + " Classes that are confused with one another stand together (hierarchical clustering)."
        + (_left_out(confusion, order) if len(order) < len(confusion) else ""),
        [confusions.table(run)],
        zooms=True,
        square=True,
    )


def _left_out(confusion: Confusions, order: np.ndarray) -> str:
    """Of the mistakes, where a matrix has not the pixels for all classes."""
    wrong, shown = (int(part.wrong.counts.sum()) for part in (confusion, confusion.among(order)))
    return (
        f" Of {len(confusion):,} classes the {len(order):,} between which images are confused most are shown, and with "
        f"them {shown:,} of the {wrong:,} mistakes."
    )


def _curves(runs: Sequence[Run]) -> list[Figure]:
    trained = [run for run in runs if run.history]
    shown: list[Figure] = []
    for chart in charts(trained):
        several = len(chart.curves) > 1
        known = [run for run in trained if any(run.history[-1].get(curve.key) is not None for curve in chart.curves)]
        shown.append(
            Figure(
                chart.title,
                f"Lines over the epochs, from first to last. {'; '.join(_ends(trained, chart))}.",
                figures.curves(trained, chart),
                chart.caption,
                () if shown else [training.epochs(run) for run in trained],
                [
                    *_legend(runs, known),
                    *(Line(curve.text, "currentColor", curve.dash) for curve in chart.curves if several),
                ],
            )
        )
    return shown


def _ends(runs: Sequence[Run], chart: Chart) -> Iterable[str]:
    """The first and last value of every curve."""
    for run in runs:
        for key, _, text, _ in chart.curves:
            if values := [chart.scale * row[key] for row in run.history if row.get(key) is not None]:
                yield f"{run.name}, {text}: {values[0]:.3g} to {values[-1]:.3g}"


def _calibration(runs: Sequence[Run], found: Sequence[Run]) -> Figure:
    said = "; ".join(
        f"{run.name}: {percent(error)} %"
        for run in found
        if (error := (run.summary.get("scores") or {}).get("ece")) is not None
    )
    return Figure(
        "Reliability",
        f"Accuracy against confidence, in bins. Expected calibration error: {said or 'unknown'}.",
        figures.reliability(found),
        "On the dashed line, the model is right as often as it says; below it, it is too sure of itself. "
        "Faint bars: the part of the test images with that confidence."
        + (f" Expected calibration error: {said}." if said else ""),
        [calibration.bins(run) for run in found],
        _legend(runs, found),
    )


def _spectrum(runs: Sequence[Run], found: Sequence[Run]) -> Figure:
    largest = [(run.name, *(values[0] for values in run.spectrum)) for run in found]
    said = "; ".join(f"{name}: {plain:.3f} plain, {weighted:.3f} weighted" for name, plain, weighted in largest)
    return Figure(
        "Singular values of the confusions",
        f"Lines that fall from the largest singular value. {said}.",
        figures.spectrum(found),
        "Of the test set's confusion matrix, each column divided by the images of its class, without the diagonal. "
        "Weighted: columns times (training frequency + 0.2) to the power -1/2. The largest weighted value, times the "
        "root of the number of classes, bounds the weighted error of the worst class. One value far above the rest "
        "means that the mistakes have one common direction.",
        [confusions.spectrum(found)],
        [*_legend(runs, found), Line("plain", "currentColor", "solid"), Line("weighted", "currentColor", "dashed")],
    )


def _legend(runs: Sequence[Run], shown: Sequence[Run]) -> list[Line]:
    """Of points and lines; a report of one run needs none."""
    return [Line(run.name, *figures.look(run)) for run in shown] if len(runs) > 1 else []
