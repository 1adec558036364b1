"""Images named by a table of comma-separated values, with labels in text or numbers."""

from pathlib import Path

from car_ext.datasets.source import Source
from car_ext.datasets.sources.list_file import load_lists

SOURCE = Source(
    "csv file",
    matches=lambda data: Path(data).suffix.lower() == ".csv",
    load=load_lists,
    options=("data_root", "test_list", "label_column"),
)
