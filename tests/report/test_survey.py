"""The page of a data set: whole, alone, and of whatever names there are."""

import numpy as np
from pages import HOSTILE, Parsed, assert_self_contained

from car_ext import report


def facts(names):
    images = [{"file": name, "split": "train", "class": name, "position": at} for at, name in enumerate(names)]
    group = {"images": images, "splits": ["train"], "classes": names}
    return {
        "data": names[0],
        "overview": names,
        "notes": names,
        "splits": {"train": 9, "test": 3},
        "classes": [{"name": name, "train": 3, "val": 0, "test": 1, "group": "few"} for name in names],
        "width": [1, 2, 3],
        "height": [4, 5, 6],
        "formats": {"PNG": 9},
        "modes": {"RGB": 9},
        "unreadable": [{**image, "reason": image["file"]} for image in images],
        "copies": [group],
        "near": [group] * 61,
        "near_bits": 4,
        "flat": 2,
        "follows": names,
    }


def test_the_page_stands_alone_and_takes_any_name(tmp_path):
    pictures = {("train", 0): np.zeros((64, 64, 3), np.uint8), ("train", 1): np.zeros((64, 64, 1), np.uint8)}
    report.write_survey(facts(HOSTILE), pictures, tmp_path / "data.html")
    page = Parsed((tmp_path / "data.html").read_text())
    assert_self_contained(page)
    for words in ("9 training images", "the first 60 of 61 groups", "{{ 7 * 7 }}", "Every image that cannot be read"):
        assert words in page.text
    assert sum(tag == "img" for tag, _ in page.tags) == 2 * 61
