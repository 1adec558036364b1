"""Flags and YAML are one language: the same values, the same limits, the same suggestions."""

import dataclasses
import inspect
from pathlib import Path

import pytest
import yaml

from car_ext import CAR
from car_ext.cli.flags import add_job, parse
from car_ext.cli.parser import Parser
from car_ext.config.config import OPTIONS, CAROptions, Config
from car_ext.config.recipe import read_recipe
from car_ext.errors import InputError
from car_ext.methods import registry
from car_ext.recipes import RECIPES


@pytest.fixture
def write(tmp_path):
    def write(text: str) -> str:
        path = tmp_path / "job.yaml"
        path.write_text(text)
        return str(path)

    return write


def test_no_flags_give_the_defaults():
    assert parse([]) == Config()
    assert Config().run_dir == Path("runs/digits-convnet-ce-seed0")


def test_pretrained_weights_bring_the_recipe_finetune(capsys):
    recipe = parse(["--config", "finetune"])
    assert recipe.pretrained == "timm"
    assert recipe == parse(["--pretrained"])
    assert dataclasses.replace(recipe, pretrained="a.pth", lr=0.5) == parse(["--pretrained", "a.pth", "--lr", "0.5"])
    assert "those of --config finetune" in capsys.readouterr().err
    assert parse(["--config", "cifar10_lt_resnet32_ce", "--pretrained"]).epochs == 200
    assert parse(["--no-pretrained"]) == Config()


def test_freeze_is_a_word_for_the_head_alone():
    assert parse(["--freeze"]) == Config(tune="head")
    with pytest.raises(InputError, match="tune is lora, but a second stage trains its head alone"):
        Config(stage2="run", tune="lora")
    assert Config(stage2="run").head_alone


@pytest.mark.parametrize(("written", "value"), [("true", "timm"), ("false", None), ("null", None), ("a.pth", "a.pth")])
def test_pretrained_reads_as_it_was_written_before(tmp_path, written, value):
    (tmp_path / "config.yaml").write_text(f"pretrained: {written}")
    assert read_recipe(tmp_path / "config.yaml").pretrained == value
    assert Config(pretrained={"true": True, "false": False}.get(written, value)).pretrained == value


def test_flags_of_every_type():
    flags = "--lr 1e-3 --epochs 7 --nesterov --no-channels-last --clip-grad 2 --car-alpha 1 --car-absent hold"
    config = parse([*flags.split(), "--regularizer", "car", "--data", "/a/b/photos.zip", "--seed=3"])
    assert config == Config(
        lr=0.001,
        epochs=7,
        nesterov=True,
        channels_last=False,
        clip_grad=2.0,
        car=CAROptions(alpha=1.0, absent="hold"),
        regularizer="car",
        data="/a/b/photos.zip",
        seed=3,
    )
    assert config.run_dir == Path("runs/photos-convnet-ce+car-seed3")


def test_yaml_sets_defaults_and_flags_override(write):
    path = write("lr: 1e-3\nepochs: 5.0\ncar: {alpha: 1, debias: yes}\nimbalance_ratio: null\n")
    config = parse(["--config", path, "--epochs", "6"])
    assert config == Config(lr=1e-3, epochs=6, car=CAROptions(alpha=1.0, debias=True))
    assert isinstance(config.lr, float)
    assert isinstance(config.epochs, int)


def test_a_flag_can_take_an_optional_value_back(write):
    assert parse(["--config", write("imbalance_ratio: 100"), "--imbalance-ratio", "none"]) == Config()


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_recipes_are_valid_and_found_by_name(name):
    assert parse(["--config", name]) == read_recipe(RECIPES / f"{name}.yaml")


def test_the_digits_recipe_is_the_default_job():
    written = read_recipe(RECIPES / "digits.yaml")
    assert written.differences(Config(imbalance_ratio=50, augment="none")) == []


def test_car_is_a_word_with_options_like_every_other():
    config = parse(["--regularizer", "maxnorm+car:alpha=1,beta=0.9,absent=hold", "--car-r0", "0.5"])
    assert config.car_options == CAROptions(alpha=1.0, beta=0.9, absent="hold", r0=0.5)
    assert config.car == CAROptions(r0=0.5)
    assert config.method == "ce+maxnorm+car:alpha=1,beta=0.9,absent=hold"
    assert Config.from_dict(config.to_dict()) == config


def test_the_same_value_by_word_and_by_flag_is_no_contradiction():
    assert parse(["--regularizer", "car:alpha=1", "--car-alpha", "1"]).car_options.alpha == 1


def test_the_word_may_come_from_a_recipe_and_the_rest_from_flags(write):
    config = parse(["--config", write("regularizer: car:alpha=2\ncar: {prior: 1}\n"), "--car-gamma", "2"])
    assert config.car_options == CAROptions(alpha=2.0, prior=1.0, gamma=2.0)


def test_options_of_car_move_out_of_its_word():
    config = Config(regularizer="car:alpha=2,beta=0.1+maxnorm:thresh=0.2").with_car(alpha=3.0)
    assert config.regularizer == "car+maxnorm:thresh=0.2"
    assert config.car == config.car_options == CAROptions(alpha=3.0, beta=0.1)


def test_what_car_takes_is_written_once():
    defaults = registry.options(registry.methods("regularizer")["car"])
    assert defaults == dataclasses.asdict(CAROptions())
    assert {f"car.{key}" for key in defaults} == {key for key in OPTIONS if key.startswith("car.")}
    parameters = inspect.signature(CAR).parameters
    assert {key: parameters[key].default for key in defaults} == defaults


def test_step_epochs_count_only_for_steps():
    flags = ["--step-epochs", "20,30"]
    assert parse(flags).drop_epochs == []
    assert parse([*flags, "--schedule", "step"]).drop_epochs == [20, 30]
    assert Config(schedule="step", step_epochs=20).drop_epochs == [20]


def test_round_trip(tmp_path):
    config = Config(lr=3e-4, channels_last=True, img_size=32, car=CAROptions(beta=0.9, variant="reference-code"))
    assert Config.from_dict(config.to_dict()) == config
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_dict()))
    assert parse(["--config", str(path)]) == config


def test_differences_name_what_changes_the_result():
    other = Config(lr=1.0, car=CAROptions(r0=1.0), out="elsewhere", workers=3, resume=True)
    assert Config().differences(other) == ["car.r0", "lr"]


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        ("--lrr 1", ["--lrr", "did you mean --lr?"]),
        ("--car-alpa=1", ["--car-alpa", "did you mean --car-alpha?"]),
        ("--optimizer sdg", ["--optimizer", "'sdg'", "sgd, adamw", "did you mean sgd?"]),
        ("--lr 0", ["--lr", "0", "> 0"]),
        ("--lr nan", ["--lr", "nan", "finite"]),
        ("--weight-decay inf", ["--weight-decay", "inf"]),
        ("--epochs 0", ["--epochs", ">= 1"]),
        ("--epochs 1.5", ["--epochs", "whole number"]),
        ("--batch-size -4", ["--batch-size", ">= 1"]),
        ("--car-beta 1", ["--car-beta", ">= 0 and < 1"]),
        ("--car-r0 0", ["--car-r0", "> 0"]),
        ("--car-alpha -1", ["--car-alpha", ">= 0"]),
        ("--regularizer car:alpha=-1", ["car.alpha is -1", ">= 0"]),
        ("--regularizer car:absent=keep", ["car.absent is 'keep'", "one of decay, hold"]),
        (
            "--regularizer car:alpah=1",
            ["alpah of regularizer 'car'", "takes alpha=0.5, beta=0.5", "mean alpha?"],
        ),
        ("--regularizer car:alpha=big", ["alpha of regularizer 'car' is 'big'", "a number"]),
        ("--regularizer car:alpha=1+car", ["names car more than once"]),
        ("--regularizer car:beta=0.9 --car-beta 0.8", ["beta=0.9", "--car-beta", "0.8", "give it once"]),
        ("--seed 4294967296", ["--seed"]),
        ("--seed", ["--seed", "expected one argument"]),
        ("--regul car", ["--regul", "did you mean --regularizer?"]),
        ("digits", ["digits is not an option"]),
        ("--warmup-epochs 50", ["warmup_epochs is 50", "40 epochs"]),
        ("--min-lr 1", ["min_lr is 1.0", "0.003"]),
        ("--schedule step", ["step_epochs does not say when"]),
        ("--schedule step --step-epochs 20,soon", ["step_epochs is 'soon'", "whole number"]),
        ("--schedule step --step-epochs 30,20", ["step_epochs is 30,20", "must rise", "40"]),
        ("--schedule step --step-epochs 20,40", ["step_epochs is 20,40", "below all 40"]),
        ("--schedule step --step-epochs 1,20", ["step_epochs is 1,20", "1 epochs of warm-up"]),
        ("--augment mirror", ["augment is 'mirror'", "rrc-wide", "+jitter"]),
        ("--view-augment none", ["view_augment is 'none'", "simclr-wide"]),
        ("--resize 32 --img-size 64", ["resize is 32", "64 of img_size"]),
        ("--init torch --pretrained", ["init is torch", "pretrained"]),
        ("--step-factor 1", ["--step-factor", "> 0 and < 1"]),
        ("--holdout 1", ["--holdout", ">= 0 and < 1"]),
        ("--config digts", ["digts", "did you mean digits?"]),
        ("--config nowhere.yaml", ["nowhere.yaml", "cannot be read"]),
    ],
)
def test_bad_flags_are_named_with_the_fix(flags, words):
    with pytest.raises(InputError) as error:
        parse(flags.split())
    assert all(word in str(error.value) for word in words), error.value


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("learning_rate: 1", ["learning_rate"]),
        ("optimiser: sgd", ["optimiser", "did you mean optimizer?"]),
        ("car: {alhpa: 1}", ["car.alhpa", "did you mean car.alpha?"]),
        ("car: 0.5", ["car", "{alpha: 0.5}"]),
        ("lr: true", ["lr", "True", "a number"]),
        ("lr: [1, 2]", ["lr", "[1, 2]", "a number"]),
        ("lr:", ["lr", "None"]),
        ("epochs: many", ["epochs", "'many'", "whole number"]),
        ("nesterov: 3", ["nesterov", "true or false"]),
        ("optimizer: adam", ["optimizer", "did you mean adamw?"]),
        ("car: {beta: 1.5}", ["car.beta", "1.5"]),
        ("- lr", ["list"]),
        ("lr: [", ["not valid YAML"]),
        ("lr: !!python/object/apply:os.getcwd []", ["not valid YAML"]),
    ],
)
def test_bad_yaml_is_named_with_key_file_and_fix(write, text, words):
    path = write(text)
    with pytest.raises(InputError) as error:
        parse(["--config", path])
    assert all(word in str(error.value) for word in [*words, path]), error.value


@pytest.mark.parametrize("values", [{"lr": -1}, {"epochs": 0}, {"optimizer": "adam"}, {"batch_size": 1.5}])
def test_python_callers_are_checked_too(values):
    with pytest.raises(InputError, match=next(iter(values))):
        Config(**values)


def test_help_explains_every_option(capsys):
    parser = Parser(epilog="examples: ...")
    add_job(parser)
    with pytest.raises(SystemExit) as stop:
        parser.parse_args(["--help"])
    assert stop.value.code == 0
    text = capsys.readouterr().out
    assert "--car-temperature" in text
    assert "(default: 40)" in text
    assert "examples: ..." in text


def test_a_model_of_a_hub_or_folder_names_no_folders():
    assert Config(model="hf-hub:owner/name").run_dir.parts == ("runs", "digits-hf-hub-owner-name-ce-seed0")
