"""What scores are called."""

from collections.abc import Mapping

SPEEDS = ("runs in", "images/s", "ms a batch, p50, p95", "ms an image, p50, p95")


def speeds(summary: Mapping) -> list[str]:
    """What `SPEEDS` names, of a summary of `evaluate.evaluate_all`."""
    calls = [summary["latency_ms"][kind] for kind in ("batch", "single")]
    return [
        summary["provider"].removesuffix("ExecutionProvider"),
        f"{summary['images_per_second']:.0f}",
        *(
            ", ".join(f"{spent[key]:{'.3g' if spent[key] < 1000 else '.0f'}}" for key in ("p50", "p95"))
            for spent in calls
        ),
    ]
