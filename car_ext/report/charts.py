"""The curves of a training: which columns of metrics.jsonl share a figure, and what is said of them."""

from collections.abc import Sequence
from typing import NamedTuple

from car_ext.report.runs import Run


class Curve(NamedTuple):
    """A line over the epochs.

    Attributes:
        key: of metrics.jsonl.
        dash: "solid" or "dashed".
        text: what it is.
        final: of a line on validation images, the key in the summary of what the test images gave once.
    """

    key: str
    dash: str
    text: str
    final: str | None = None


class Chart(NamedTuple):
    """Curves that share a figure."""

    title: str
    label: str
    curves: Sequence[Curve]
    caption: str
    scale: float = 1

    def of(self, runs: Sequence[Run]) -> "Chart | None":
        """With those of its curves that some run has; None where no run has any."""
        present = {key for run in runs for row in run.history for key, value in row.items() if value is not None}
        curves = [curve for curve in self.curves if curve.key in present]
        return self._replace(curves=curves) if curves else None


ACCURACY = Chart(
    "Accuracy",
    "accuracy, %",
    [
        Curve("val_overall", "solid", "validation, all classes", "overall_accuracy"),
        Curve("val_worst", "dashed", "validation, worst class", "worst_class_accuracy"),
        Curve("test_overall", "solid", "test, all classes"),
        Curve("test_worst", "dashed", "test, worst class"),
    ],
    "",
    100,
)
CHARTS = (
    ACCURACY,
    Chart(
        "Loss",
        "loss",
        [Curve("loss", "solid", "loss"), Curve("base_loss", "dashed", "without the regularizer")],
        "Mean over the training images of an epoch.",
    ),
    Chart(
        "Sigma",
        "sigma",
        [Curve("sigma", "solid", "spectral norm of the moving confusion matrix")],
        "What CAR makes small: the spectral norm of its moving average, mean over an epoch.",
    ),
)


def charts(runs: Sequence[Run]) -> list[Chart]:
    """Those that some run has a curve of."""
    found = [shown for chart in CHARTS if (shown := chart.of(runs))]
    return [chart._replace(caption=_of_images(chart)) if chart.title == ACCURACY.title else chart for chart in found]


def _of_images(chart: Chart) -> str:
    """On which images the accuracies are, and of which epoch the report is."""
    said = []
    if any(curve.final for curve in chart.curves):
        said.append(
            "On the validation images after every epoch. A dotted line marks the epoch that was kept; large marks on "
            "it are what the test images gave, once, with its weights."
        )
    if any(curve.key.startswith("test_") for curve in chart.curves):
        said.append("On the test images after every epoch. The report is of the last epoch, not of the best.")
    return " ".join(said)
