"""The page of runs: what stands where, and in which words."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from bokeh.embed import json_item
from PIL import Image

from car_ext.metrics.mistakes import MOST_CONFIDENT
from car_ext.report import cells, figures, plot, tables
from car_ext.report.frame import Figure, Line, page
from car_ext.report.order import clustered
from car_ext.report.runs import Run
from car_ext.text import printable


class Picture(NamedTuple):
    source: str  # data: URL
    describes: str
    labels: str
    note: str
    width: int
    height: int


def render(runs: Sequence[Run]) -> str:
    """The page as one text; runs have names of their own and the same classes."""
    with_findings = [run for run in runs if run.findings]
    return page(
        "page.html",
        f"Report: {' against '.join(run.name for run in runs[:3])}{' and more' if len(runs) > 3 else ''}",
        _data(runs),
        _sections(runs),
        several=len(runs) > 1,
        leads=[_lead(run, runs[0]) for run in runs],
        scores=tables.scores(runs),
        speeds=tables.speeds(runs),
        accuracies=_accuracies(runs),
        groups=_groups(runs),
        changes=[table for run in runs[1:] if (table := tables.changes(run, runs[0]))],
        matrices=_matrices(with_findings),
        pairs=[(run, tables.pairs(run, runs), _pictures(run)) for run in with_findings],
        most_confident=MOST_CONFIDENT,
        curves=_curves(runs),
        averages=tables.averages(runs),
        calibration=_calibration(runs, with_findings),
        spectrum=_spectrum(runs, with_findings),
        without=[run.name for run in runs if not run.findings],
        setup=tables.setup(runs),
    )


def _data(runs: Sequence[Run]) -> str:
    """What the runs were trained and tested on."""
    names = dict.fromkeys(printable(str(run.summary["data"])) for run in runs if run.summary.get("data"))
    counts = runs[0].class_counts
    return (
        f"{', '.join(names) or 'Data'}: {len(counts)} classes with {counts.max():,} to {counts.min():,} training images"
    )


def _sections(runs: Sequence[Run]) -> list[str]:
    found, trained = any(run.findings for run in runs), any(run.history for run in runs)
    present = {"confusions": found, "training": trained, "calibration": found, "spectrum": found}
    names = ("scores", "classes", "confusions", "training", "calibration", "spectrum", "setup")
    return [name for name in names if present.get(name, True)]


def _lead(run: Run, first: Run) -> dict[str, Any]:
    """The few numbers that a reader came for."""
    worst = tables.worst_class(run)
    summary = run.summary
    bounds = run.intervals and worst is not None and [bound[worst] for bound in run.intervals]
    better, worse = ((sign * (run.accuracies - first.accuracies) > 0).sum() for sign in (1, -1))
    return {
        "name": run.name,
        "numbers": [
            (
                "worst class",
                tables.percent(summary.get("worst_class_accuracy")),
                f"class {tables.worst_name(run)}, {run.class_counts[worst]:,} training images"
                if worst is not None
                else "",
                f"95 % interval {cells.interval(*bounds)} %" if bounds else "",
                _against(run, first, "worst_class_accuracy"),
            ),
            (
                "overall",
                tables.percent(summary.get("overall_accuracy")),
                "of the test images" if run.test_counts is None else f"of {run.test_counts.sum():,} test images",
                "",
                _against(run, first, "overall_accuracy"),
            ),
        ],
        "changes": f"{better} classes better than {first.name}, {worse} worse" if run is not first else "",
        "colour": figures.look(run).colour,
    }


def _against(run: Run, first: Run, key: str) -> str:
    if run is first:
        return ""
    change = cells.difference(run.summary.get(key), first.summary.get(key), True)
    return f"{change} points against {first.name}" if change else ""


def _accuracies(runs: Sequence[Run]) -> Figure:
    known = [run for run in runs if (worst := tables.worst_class(run)) is not None]
    worst = "; ".join(
        f"{run.name}: from {tables.percent(np.nanmin(run.accuracies))} % ({tables.worst_name(run)}) "
        f"to {tables.percent(np.nanmax(run.accuracies))} %"
        for run in known
    )
    few = len(runs[0].class_names) <= plot.NAMED
    return Figure(
        "Accuracy of every class against its training images",
        f"Points, one a class, training images across and test accuracy up. {worst}.",
        json_item(figures.accuracy_by_count(runs)),
        "A point is a class; point at it for its name."
        + (" Bars are 95 % Wilson intervals." if few and any(run.intervals for run in runs) else "")
        + " Dotted lines part few, medium and many training images (20 and 100).",
        [tables.classes(runs)],
        _legend(runs, known),
        zooms=True,
    )


def _groups(runs: Sequence[Run]) -> Figure:
    names, values, low, high, table = tables.groups(runs)
    said = "; ".join(
        f"{run.name}: "
        + ", ".join(f"{name} {tables.percent(v)} %" for name, v in zip(names, row, strict=True) if v == v)
        for run, row in zip(runs, values, strict=True)
    )
    known = not np.isnan(low).all()
    return Figure(
        "Groups of classes and the worst one",
        f"Bars of test accuracy. {said}.",
        json_item(figures.bars(runs, names, values, low, high)),
        "Means over the classes with over 100 (many), 20 to 100 (medium) and under 20 (few) training images."
        + (
            " Lines are 95 % Wilson intervals. The worst class was picked after looking, so its own interval lies "
            "somewhat too low."
            if known
            else ""
        ),
        [table],
        [Line(run.name, figures.look(run).colour, "area") for run in runs] if len(runs) > 1 else (),
    )


def _matrices(runs: Sequence[Run]) -> list[Figure]:
    if not runs:
        return []
    order = clustered([run.findings.confusion for run in runs])
    shown = []
    for run in runs:
        confusion = run.findings.confusion
        right = int(np.trace(confusion))
        wrong = int(confusion.sum()) - right
        first = tables.pairs(run, [run])[:3]
        said = "; ".join(f"{pair.true} taken for {pair.predicted}, {pair.share}" for pair in first)
        shown.append(
            Figure(
                run.name,
                f"Confusion matrix of {len(order)} classes: {right} images right, {wrong} wrong. {said}.",
                json_item(figures.confusion_matrix(run, order)),
                "Blue is right, orange is wrong; the stronger, the larger the part of the true class."
                + (" Numbers are per cent of the true class." if len(order) <= 15 else "")
                + " Classes that are confused with one another stand together (hierarchical clustering).",
                [tables.confusions(run)],
                zooms=True,
                square=True,
            )
        )
    return shown


def _pictures(run: Run) -> list[Picture]:
    """The images of findings.examples, in their order."""
    return [
        Picture(
            _png(pixels),
            f"test image {example['image']}: {run.class_names[example['true']]}, "
            f"taken for {run.class_names[example['predicted']]}",
            f"{run.class_names[example['true']]} \N{RIGHTWARDS ARROW} {run.class_names[example['predicted']]}",
            f"{100 * example['confidence']:.0f} %",
            pixels.shape[1],
            pixels.shape[0],
        )
        for example, pixels in zip(run.findings.examples, run.findings.thumbnails, strict=True)
    ]


def _png(pixels: np.ndarray) -> str:
    content = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"


def _curves(runs: Sequence[Run]) -> list[Figure]:
    trained = [run for run in runs if run.history]
    shown = []
    for title, label, keys, scale, caption in (
        (
            "Accuracy",
            "accuracy, %",
            (("test_overall", "solid", "test, all classes"), ("test_worst", "dashed", "test, worst class")),
            100,
            "On the test images after every epoch. The report is of the last epoch, not of the best.",
        ),
        (
            "Loss",
            "loss",
            (("loss", "solid", "loss"), ("base_loss", "dashed", "without the regularizer")),
            1,
            "Mean over the training images of an epoch.",
        ),
        (
            "Sigma",
            "sigma",
            (("sigma", "solid", "spectral norm of the moving confusion matrix"),),
            1,
            "What CAR makes small: the spectral norm of its moving average, mean over an epoch.",
        ),
    ):
        plot = figures.curves(trained, [key[:2] for key in keys], label, scale)
        if plot is None:
            continue
        lines = [Line(text, "currentColor", dash) for _, dash, text in keys] if len(keys) > 1 else []
        said = "; ".join(
            f"{run.name}, {text}: {values[0]:.3g} to {values[-1]:.3g}"
            for run in trained
            for key, _, text in keys
            if (values := [scale * row[key] for row in run.history if row.get(key) is not None])
        )
        shown.append(
            Figure(
                title,
                f"Lines over the epochs, from first to last. {said}.",
                json_item(plot),
                caption,
                () if shown else [tables.epochs(run) for run in trained],
                [*_legend(runs, [run for run in trained if run.history[-1].get(keys[0][0]) is not None]), *lines],
            )
        )
    return shown


def _calibration(runs: Sequence[Run], found: Sequence[Run]) -> Figure | None:
    if not found:
        return None
    said = "; ".join(
        f"{run.name}: {tables.percent(score)} %"
        for run in found
        if (score := (run.summary.get("scores") or {}).get("ece")) is not None
    )
    return Figure(
        "Reliability",
        f"Accuracy against confidence, in bins. Expected calibration error: {said or 'unknown'}.",
        json_item(figures.reliability(found)),
        "On the dashed line, the model is right as often as it says; below it, it is too sure of itself. "
        "Faint bars: the part of the test images with that confidence."
        + (f" Expected calibration error: {said}." if said else ""),
        [tables.bins(run) for run in found],
        _legend(runs, found),
    )


def _spectrum(runs: Sequence[Run], found: Sequence[Run]) -> Figure | None:
    if not found:
        return None
    plot, values = figures.spectrum(found)
    said = "; ".join(
        f"{run.name}: {plain[0]:.3f} plain, {weighted[0]:.3f} weighted"
        for run, (plain, weighted) in zip(found, values, strict=True)
    )
    return Figure(
        "Singular values of the confusions",
        f"Lines that fall from the largest singular value. {said}.",
        json_item(plot),
        "Of the test set's confusion matrix, each column divided by the images of its class, without the diagonal. "
        "Weighted: columns times (training frequency + 0.2) to the power -1/2. The largest weighted value, times the "
        "root of the number of classes, bounds the weighted error of the worst class. One value far above the rest "
        "means that the mistakes have one common direction.",
        [tables.spectrum(found, values)],
        [*_legend(runs, found), Line("plain", "currentColor", "solid"), Line("weighted", "currentColor", "dashed")],
    )


def _legend(runs: Sequence[Run], shown: Sequence[Run]) -> list[Line]:
    """Of points and lines; a report of one run needs none."""
    return [Line(run.name, *figures.look(run)) for run in shown] if len(runs) > 1 else []
