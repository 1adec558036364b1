"""Which image is in which split, as a list that is data again."""

import csv
import io

from car_ext.datasets.rows import SPLIT
from car_ext.datasets.split import LongTailedData


def split_list(data: LongTailedData) -> str:
    """A .csv file of the columns path, label and split, a row an image; "" where the data name no files.

    `--data split.csv` with the folder of the data as `--data-root` is the same images in the same splits, where the
    files lie in a folder.
    """
    splits = {"train": data.train, "val": data.val, "test": data.test}
    if not data.train.files:
        return ""
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["path", "label", SPLIT])
    for name, split in splits.items():
        if split:
            rows.writerows(
                [file, data.class_names[label], name] for file, label in zip(split.files, split.targets, strict=True)
            )
    return text.getvalue()
