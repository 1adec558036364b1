"""What a run has left."""

from car_ext.config.config import Config
from car_ext.run.folder import RunFolder


def rows(config: Config) -> list[dict]:
    """The lines of metrics.jsonl but for their speed, which is never the same twice."""
    return [
        {key: value for key, value in row.items() if key != "images_per_second"}
        for row in RunFolder(config.run_dir).read_metrics()
    ]
