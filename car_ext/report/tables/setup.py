"""What made the runs: options, versions and hardware."""

from collections.abc import Mapping, Sequence
from typing import Any

from car_ext.report.cells import Table
from car_ext.report.runs import Run
from car_ext.text import printable

MADE = (  # of the summary, beside the options
    "model",
    "format",
    "provider",
    "images",
    "batch_size",
    "parameters",
    "seconds",
    "kept_epoch",
    "augment",
    "amp",
)


def table(runs: Sequence[Run]) -> Table:
    """What made the runs; options that differ between them first."""
    held = [
        _flat(run.config)
        | {key: run.summary[key] for key in MADE if run.summary.get(key) is not None}
        | _flat(run.summary.get("environment", {}))
        | _flat(run.summary.get("hardware", {}))
        for run in runs
    ]
    keys = list(dict.fromkeys(key for values in held for key in values))
    texts = {key: [_plain(values.get(key)) for values in held] for key in keys}
    order = sorted(keys, key=lambda key: len(set(texts[key])) == 1)
    return Table(
        "Options, versions and hardware" + ("; what differs stands first" if len(runs) > 1 else ""),
        ["", *(run.name for run in runs)],
        [[printable(key), *texts[key]] for key in order],
        frozenset(range(1, len(runs) + 1)),
    )


def _flat(values: Mapping[str, Any]) -> dict[str, Any]:
    return {
        f"{key}.{inner}" if inner else key: item
        for key, value in values.items()
        for inner, item in (value.items() if isinstance(value, dict) else [("", value)])
    }


def _plain(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else printable(str(value))
