"""How right a run is where it is how sure."""

from car_ext.report.cells import Table, percent
from car_ext.report.runs import Run


def bins(run: Run) -> Table:
    held = run.found.reliability
    rows = [
        [f"{100 * low:.0f} to {100 * high:.0f} %", str(count), percent(confidence), percent(accuracy)]
        for low, high, count, confidence, accuracy in zip(
            held["edges"][:-1],
            held["edges"][1:],
            *(held[key] for key in ("count", "confidence", "accuracy")),
            strict=True,
        )
    ]
    columns = ["confidence", "images", "mean confidence, %", "accuracy, %"]
    return Table(f"{run.name}: bins of the confidence", columns, rows)
