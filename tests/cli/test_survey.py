"""`car-ext data` tells everything it finds and ends well."""

import argparse
import json
import sys

from pages import Parsed
from pictures import save

from car_ext.cli.flags import add_job, job
from car_ext.commands import program
from car_ext.config.config import Config
from car_ext.datasets import DataOptions, cache, identity, load
from car_ext.datasets.cache_folder import find_folder


def test_data(tmp_path, monkeypatch, capsys):
    root = tmp_path / "photos"
    for label, name in enumerate(["ant", "[red]bee"]):
        for number in range(3):
            save(root / name / f"{number}.png", label, number)
    for number in range(30):
        (root / "ant" / f"bad{number}.png").write_bytes(bytes([number]))
    files = tmp_path / "data.json", tmp_path / "data.html"
    monkeypatch.setattr(sys, "argv", ["car-ext", "data", str(root), "--json", str(files[0]), "--html", str(files[1])])
    assert program.car_ext_command() == 0
    out = capsys.readouterr().out
    assert "photos: 2 classes; images: 28 training, 8 test" in out
    assert all(f"- ant/bad{number}.png: no known image format" in out for number in range(30))
    assert "[red]bee" in out
    assert "what follows\n- 30 images cannot be read" in out
    assert len(json.loads(files[0].read_text())["unreadable"]) == 30
    assert "ant/bad29.png" in Parsed(files[1].read_text()).text


def test_bad_data_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["car-ext", "data", str(tmp_path / "nowhere")])
    assert program.car_ext_command() == 2
    assert "does not exist" in capsys.readouterr().err


def test_decoded_images_are_told_and_removed(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cache, "WORTH", 0)
    monkeypatch.setattr(identity, "TICK", 0.02)
    for label, name in enumerate(["ant", "bee"]):
        for number in range(5):
            save(tmp_path / "photos" / name / f"{number}.png", label, number)
    kept, data = tmp_path / "kept", str(tmp_path / "photos")

    def said(*arguments):
        monkeypatch.setattr(sys, "argv", ["car-ext", "data", *arguments, "--cache-dir", str(kept)])
        code = program.car_ext_command()
        return code, " ".join([*capsys.readouterr()])

    assert "decoded images kept on disk: none of these data; of all data 0.00 MB" in said(data)[1]
    side = load(data, options=DataOptions(cache_dir=kept)).image_size
    assert f"of these data (train at {side} pixels, test at {side} pixels)" in " ".join(said(data)[1].split("\n"))
    code, told = said("--clear-cache")
    assert (code, list(kept.glob("*.npy"))) == (0, [])
    assert "2 files of decoded images" in told
    code, told = said()
    assert code == 2
    assert "--clear-cache" in told
    kept = "none"
    assert said("--clear-cache")[0] == 2
    assert "decoded images are not kept on disk" in said(data)[1]


def test_none_is_no_folder_and_auto_the_systems(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert find_folder(Config().data_options.cache_dir) == find_folder(DataOptions().cache_dir)
    if sys.platform == "linux":
        assert find_folder(Config().cache_dir) == tmp_path / "car_ext"
    parser = argparse.ArgumentParser()
    add_job(parser)
    for word, folder in (("none", None), (str(tmp_path), tmp_path)):
        assert find_folder(job(parser.parse_args(["--cache-dir", word])).data_options.cache_dir) == folder
