"""Recipes: made of one another, differences only, and of words that exist."""

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import yaml
from PIL import Image

from car_ext.cli.flags import parse
from car_ext.config.config import Config
from car_ext.config.recipe import read_recipe
from car_ext.errors import InputError
from car_ext.methods import registry
from car_ext.methods.augment.mix import build_mix
from car_ext.methods.contrast import build_contrast
from car_ext.models import classifier as models
from car_ext.models import small
from car_ext.recipes import RECIPES
from car_ext.training.objective import Objective
from car_ext.training.train import train

NAMES = sorted(path.stem for path in RECIPES.glob("*.yaml"))


def own(path: Path) -> tuple[list[str], dict]:
    values = yaml.safe_load(path.read_text())
    return values.pop("base", []), values


def merged(path: Path) -> dict:
    """What a recipe stands for, the slow way."""
    bases, values = own(path)
    result: dict = {"car": {}}
    for part in [merged(path.parent / f"{name}.yaml") for name in bases] + [values]:
        result |= {**part, "car": {**result["car"], **part.get("car", {})}}
    return result


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_is_its_bases_and_then_itself(name):
    config = parse(["--config", name, "--seed", "3"])
    assert config == Config.from_dict({**merged(RECIPES / f"{name}.yaml"), "seed": 3})


@pytest.mark.parametrize("name", NAMES)
def test_a_recipe_writes_only_what_differs(name):
    path = RECIPES / f"{name}.yaml"
    bases, values = own(path)
    below: dict = {"car": {}}
    for base in bases:
        part = merged(path.parent / f"{base}.yaml")
        below |= {**part, "car": {**below["car"], **part["car"]}}
    car = values.pop("car", {})
    repeated = [key for key, value in values.items() if below.get(key) == value]
    repeated += [key for key, value in car.items() if below["car"].get(key) == value]
    assert repeated == []


@pytest.mark.parametrize("name", NAMES)
def test_the_words_of_a_recipe_exist_and_fit_together(name):
    config = read_recipe(RECIPES / f"{name}.yaml")
    assert config.model in small.NETWORKS or timm.is_model(config.model)
    registry.parse("sampler", config.sampler)
    counts = [50, 20, 10, 5]
    with torch.device("meta"):
        model = models.build_model("convnet", counts, 8, 3, [0.5] * 3, [0.5] * 3, heads=[config.head])
        contrast = None if config.contrast == "none" else build_contrast(config.contrast, counts, model)
    mix = None if config.mix == "none" else build_mix(config.mix, counts)
    Objective(config.loss, config.regularizer, counts, {}, config.drw_epoch, contrast).check(model.head, mix)


def test_every_part_is_used():
    used = {base for path in RECIPES.rglob("*.yaml") for base in own(path)[0]}
    assert {f"parts/{path.stem}" for path in (RECIPES / "parts").glob("*.yaml")} <= used


@pytest.fixture
def write(tmp_path):
    def write(**texts: str) -> Path:
        for name, text in texts.items():
            (tmp_path / f"{name}.yaml").write_text(text)
        return tmp_path

    return write


def test_later_bases_win_and_the_file_itself_most(write):
    folder = write(
        a="lr: 0.1\nepochs: 7\nmodel: resnet18\ncar: {alpha: 1, beta: 0.1}\n",
        b="base: [a]\nlr: 0.2\nepochs: 8\n",
        c="lr: 0.3\ncar: {beta: 0.3}\n",
        job="base: [b, c]\nseed: 4\nepochs: 9\ncar: {gamma: 0}\n",
    )
    config = parse(["--config", "job", "--seed", "5"], recipes=folder)
    assert (config.lr, config.epochs, config.model, config.seed) == (0.3, 9, "resnet18", 5)
    assert (config.car.alpha, config.car.beta, config.car.gamma) == (1.0, 0.3, 0.0)


def test_the_same_base_twice_is_no_cycle(write):
    folder = write(a="lr: 0.1\n", b="base: [a]\n", c="base: [a]\n", job="base: [b, c]\n")
    assert read_recipe(folder / "job.yaml").lr == 0.1


@pytest.mark.parametrize(
    ("texts", "words"),
    [
        ({"job": "base: [job]\n"}, ["job.yaml is a base of itself (job -> job)"]),
        ({"job": "base: [b]\n", "b": "base: [c]\n", "c": "base: [b]\n"}, ["b.yaml", "(b -> c -> b)"]),
        ({"job": "base: [other]\n", "others": "lr: 1\n"}, ["base of", "job.yaml names other", "did you mean others?"]),
        ({"job": "base: resnet\n"}, ["base of", "'resnet'", "must be a list"]),
        ({"job": "base: [b]\n", "b": "lrr: 1\n"}, ["lrr in", "b.yaml", "did you mean lr?"]),
    ],
)
def test_bad_bases_are_named_with_the_fix(write, texts, words):
    with pytest.raises(InputError) as error:
        read_recipe(write(**texts) / "job.yaml")
    assert all(word in str(error.value) for word in words), error.value


@pytest.fixture
def photos(tmp_path):
    """Four classes of 9 to 3 noise images, and three test images each."""
    random = np.random.default_rng(0)
    for split, counts in (("train", (9, 6, 4, 3)), ("test", (3, 3, 3, 3))):
        for label, count in enumerate(counts):
            folder = tmp_path / "photos" / split / f"class{label}"
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(random.integers(0, 256, (40 + 5 * i, 48, 3), np.uint8)).save(folder / f"{i}.png")
    return tmp_path / "photos"


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("cifar100_lt_resnet32_bs_lwr", "--step-epochs 1"),
        ("cifar100_lt_resnet32_concutmix", "--step-epochs 1"),
        ("imagenet_lt_vit_t_car", "--img-size 64"),
    ],
)
def test_a_shortened_recipe_trains(photos, tmp_path, name, options):
    short = f"--imbalance-ratio 3 --epochs 2 --warmup-epochs 0 --batch-size 8 --workers 0 {options}".split()
    job = ["--config", name, "--data", str(photos), "--out", str(tmp_path / "run"), *short]
    summary = train(parse(job), progress=False)
    assert summary["epochs"] == 2
    assert len(summary["per_class_accuracy"]) == 4


def test_a_recipe_cuts_the_data_that_it_names_alone(capsys):
    cut = ["imbalance_ratio", "profile", "selection", "selection_seed"]
    assert parse(["--config", "cifar10_lt"]).imbalance_ratio == 100
    assert parse(["--config", "cifar10_lt", "--data", "cifar10"]).imbalance_ratio == 100
    capsys.readouterr()
    other = parse(["--config", "cifar100_lt_resnet34_los", "--data", "photos/"])
    assert [getattr(other, key) for key in cut] == [getattr(Config(), key) for key in cut]
    assert other.loss == parse(["--config", "cifar100_lt_resnet34_los"]).loss
    assert "cuts cifar100 to an imbalance ratio of 100; photos/ is other data, of which all" in capsys.readouterr().err
    asked = parse(["--config", "cifar10_lt", "--data", "photos/", "--imbalance-ratio", "20"])
    assert asked.imbalance_ratio == 20


def test_a_run_is_cut_as_before_where_its_data_are_moved(tmp_path):
    (tmp_path / "config.yaml").write_text("data: photos/\nimbalance_ratio: 20\n")
    assert parse(["--config", str(tmp_path / "config.yaml"), "--data", "moved/"]).imbalance_ratio == 20
