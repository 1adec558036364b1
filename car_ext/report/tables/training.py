"""How a run was trained, epoch by epoch."""

from collections.abc import Sequence

import numpy as np

from car_ext.report.cells import Table, number
from car_ext.report.runs import Run

MOST = 100  # epochs


def epochs(run: Run) -> Table:
    """metrics.jsonl, thinned evenly where it is long."""
    last = len(run.history) - 1
    rows = [run.history[at] for at in np.unique(np.linspace(0, last, min(last + 1, MOST)).astype(int))]
    keys = [key for key in run.history[0] if any(row.get(key) is not None for row in run.history)]
    text = [[f"{row[key]:.4g}" if row.get(key) is not None else "-" for key in keys] for row in rows]
    return Table(f"{run.name}: epochs", [key.replace("val_", "validation ").replace("_", " ") for key in keys], text)


def averages(runs: Sequence[Run]) -> Table | None:
    """How far CAR's moving average is from the whole training set; None where no run has one."""
    known = [(run, held) for run in runs if (held := run.summary.get("moving_average"))]
    if not known:
        return None
    rows = [[run.name, *(number(held[key]) for key in ("sigma", "full_sigma", "distance"))] for run, held in known]
    notes = dict.fromkeys(held["note"] for _, held in known if held.get("note"))
    return Table(
        "; ".join(["The moving average that CAR presses on, against the same matrix over all training images", *notes]),
        ["run", "sigma of the moving average", "sigma over all training images", "relative distance"],
        rows,
    )
