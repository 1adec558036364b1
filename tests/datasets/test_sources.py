"""A form of data is one object, of this package or of another one."""

import subprocess
import sys

import another_package
import numpy as np
import pytest

from car_ext.config.config import Config
from car_ext.datasets import NAMES, DataOptions, find_source, load, source
from car_ext.datasets.source import SOURCES
from car_ext.errors import InputError
from car_ext.plugins import Plugins
from car_ext.training.train import train

NPZ = '''"""Images and labels in one .npz file, as another package would read them."""

import numpy as np

from car_ext.datasets import LongTailedData, Source, Split


def load(request):
    with np.load(request.path, allow_pickle=False) as file:
        train, test = (Split(file[f"{part}_images"], file[f"{part}_labels"]) for part in ("train", "test"))
    _, side, _, channels = train.images.shape
    names = tuple(map(str, range(train.targets.max() + 1)))
    return LongTailedData(request.path.stem, names, train, test, side, channels)


SOURCE = Source("npz", matches=lambda data: data.endswith(".npz"), load=load)
'''


@pytest.fixture
def npz(tmp_path, monkeypatch):
    """The digits in a form that a package brings which is installed beside this one."""
    another_package.install(tmp_path, monkeypatch, SOURCES.group, "npz_of_another", "SOURCE", NPZ)
    monkeypatch.setattr(source, "SOURCES", Plugins(SOURCES.package, SOURCES.attribute, SOURCES.group))
    digits = load("digits")
    arrays = {
        f"{part}_{what}": array
        for part, split in (("train", digits.train), ("test", digits.test))
        for what, array in (("images", split.images), ("labels", split.targets))
    }
    np.savez(tmp_path / "some.npz", **arrays)
    return tmp_path / "some.npz"


def test_data_of_another_package_train(npz, tmp_path):
    summary = train(Config(data=str(npz), epochs=1, out=str(tmp_path / "run")), progress=False)
    assert summary["class_counts"] == dict(zip(map(str, range(10)), load("digits").class_counts.tolist(), strict=True))


def test_data_of_another_package_are_cut_and_refused_as_any(npz):
    cut = load(npz, imbalance_ratio=100)
    assert cut.class_counts.tolist()[:2] + cut.class_counts.tolist()[-1:] == [100, 59, 1]
    with pytest.raises(InputError, match=r"--data-root is given, but data .* has no use for it"):
        load(npz, options=DataOptions(data_root="here"))
    with pytest.raises(InputError, match="did you mean 'digits'"):
        load("digit")


def test_every_name_has_its_source():
    named = [name for one in SOURCES.known().values() for name in one.names]
    assert sorted(named) == sorted(NAMES)
    assert all(name in find_source(name).names for name in NAMES)


def test_a_folder_is_any_folder_that_nothing_else_takes(tmp_path):
    assert find_source(str(tmp_path)).name == "folder"
    (tmp_path / "train-0.parquet").touch()
    assert find_source(str(tmp_path)).name == "parquet"
    assert find_source("LIST.TXT").name == "list file"


def test_what_is_slow_to_import_waits_until_it_is_needed():
    code = (
        "import sys, car_ext.models.classifier; from car_ext.datasets import find_source; find_source('digits')\n"
        "print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "car_ext.datasets.sources.parquet" in loaded
    assert not {"timm", "sklearn", "scipy", "torchvision", "pandas", "pyarrow"} & set(loaded)
