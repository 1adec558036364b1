"""What is looked for in a data set is found: everything that cannot be read, and what is there twice."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from car_ext.datasets import DataOptions, list_data, load
from car_ext.datasets.overview import overview
from car_ext.datasets.survey import survey
from car_ext.errors import InputError


def picture(seed, size=(60, 50)):
    cells = np.random.default_rng(seed).integers(0, 256, (5, 5, 3), np.uint8)
    return Image.fromarray(cells).resize(size, Image.Resampling.BICUBIC)


@pytest.fixture
def photos(tmp_path):
    """12, 6 and 1 images in folders of splits: one is copied, one is near another, three are damaged."""
    root = tmp_path / "photos"
    for label, (name, count) in enumerate({"ant": 12, "bee": 6, "cow": 1}.items()):
        for number in range(count):
            folder = root / ("test" if number % 3 == 1 else "train") / name
            folder.mkdir(parents=True, exist_ok=True)
            picture(100 * label + number).save(folder / f"{number}.png")
    shutil.copy(root / "train" / "ant" / "0.png", root / "train" / "bee" / "copy.png")
    picture(3, (120, 100)).save(root / "test" / "ant" / "near.jpg", quality=80)
    for number in range(3):
        (root / "train" / "ant" / f"bad{number}.jpg").write_bytes(b"no" * (number + 1))
    Image.new("L", (9, 9)).save(root / "train" / "ant" / "empty.png")
    return root


def test_everything_is_found(photos):
    facts = survey(list_data(photos, 64), progress=False)
    assert json.loads(json.dumps(facts)) == facts
    assert facts["splits"] == {"train": 18, "test": 7}
    assert facts["classes"][1] == {"name": "bee", "train": 5, "val": 0, "test": 2, "group": "few"}
    assert facts["groups"] == {"many": 0, "medium": 0, "few": 3}
    assert (facts["width"], facts["height"]) == ([9, 60, 120], [9, 50, 100])
    assert facts["formats"] == {"PNG": 21, "JPEG": 1}
    assert facts["modes"] == {"RGB": 21, "L": 1}
    assert facts["flat"] == 1
    assert [image["file"] for image in facts["unreadable"]] == [f"train/ant/bad{number}.jpg" for number in range(3)]
    assert {image["reason"] for image in facts["unreadable"]} == {"no known image format"}
    (same,), (alike,) = facts["copies"], facts["near"]
    assert [image["file"] for image in same["images"]] == ["train/ant/0.png", "train/bee/copy.png"]
    assert (same["classes"], facts["several_labels"]) == (["ant", "bee"], 1)
    assert [image["file"] for image in alike["images"]] == ["train/ant/3.png", "test/ant/near.jpg"]
    assert (alike["splits"], facts["leaks"]) == (["train", "test"], 1)
    follows = " ".join(facts["follows"])
    assert "3 images cannot be read" in follows
    assert "1 test or validation image is in another split too" in follows
    assert "2 of 3 classes have fewer than 10 test images" in follows
    assert any("no score measures it: 'cow'" in note for note in facts["notes"])
    with pytest.raises(InputError, match="car-ext data lists all"):
        load(photos)


def test_images_in_memory_and_in_shares(photos):
    facts = survey(list_data("digits"), progress=False)
    assert (facts["width"], facts["formats"], facts["unreadable"]) == ([8, 8, 8], {}, [])
    split = list_data(photos / "train", 64, options=DataOptions(val_share=0.3))
    assert set(survey(split, progress=False)["splits"]) == {"train", "val", "test"}


def test_the_overview_is_short(photos):
    lines = overview(list_data(photos, 64))
    assert len(lines) <= 6
    assert lines[0] == "photos: 3 classes; images: 18 training, 7 test"
    assert "from 12 ('ant') to 1 ('cow'), imbalance ratio 12" in lines[1]
    assert lines[3].startswith("a long tail")
