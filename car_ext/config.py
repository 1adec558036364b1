"""A training job as one typed value, and the one path by which flags and YAML files become it."""

import argparse
import dataclasses
import difflib
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any

import yaml

from car_ext import registry
from car_ext.augment.images import AUGMENTATIONS
from car_ext.datasets import NAMES, PROFILES, SELECTIONS, DataOptions
from car_ext.errors import InputError
from car_ext.field import names
from car_ext.values import convert


def _option(
    default: Any,
    group: str,
    help: str,
    *,
    choices: Sequence[str] = (),
    low: float = -math.inf,
    above: float = -math.inf,
    below: float = math.inf,
    high: float = math.inf,
    changes_result: bool = True,
) -> Any:
    limits = {">=": low, ">": above, "<": below, "<=": high}
    metadata = {
        "group": group,
        "help": help,
        "choices": tuple(choices),
        "limits": {sign: limit for sign, limit in limits.items() if math.isfinite(limit)},
        "changes_result": changes_result,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclasses.dataclass(frozen=True)
class CAROptions:
    """Options of :class:`car_ext.regularizer.CAR`; loss = CE + alpha * ||C^ Lambda||_2 (arXiv 2603.16732)."""

    alpha: float = _option(0.5, "method", "weight of the regularizer in the loss", low=0)
    beta: float = _option(
        0.5, "method", "memory of the running confusion matrix: 0 sees only the current batch", low=0, below=1
    )
    r0: float = _option(
        0.2,
        "method",
        "smoothing of the class weights (frequency + r0)^-1/2; smaller favours rare ones",
        above=0,
    )
    gamma: float = _option(0.1, "method", "margin a competing logit has to be beaten by", low=0)
    temperature: float = _option(1.0, "method", "temperature of the softmax over competing classes", above=0)
    prior: float = _option(
        0.0, "method", "CAR sees logits + this times log frequency; 0 as published, 1 as balanced softmax does", low=0
    )
    variant: str = _option(
        "paper",
        "method",
        "definition in the paper, or the behaviour of its published code",
        choices=("paper", "reference-code"),
    )
    absent: str = _option(
        "decay",
        "method",
        "what happens to the confusions of a class missing from a batch: "
        "decay as published, or hold, better with many classes",
        choices=("decay", "hold"),
    )
    debias: bool = _option(False, "method", "correct the running matrix for starting at zero")

    def __post_init__(self) -> None:
        _check_fields(self, prefix="car.")


@dataclasses.dataclass(frozen=True)
class Config:
    """One training job. Without any option: the built-in digits, about two seconds on a laptop.

    Every value is checked on construction; :class:`~car_ext.errors.InputError` names the key, the value and
    what would be allowed. ``None`` means "decide from the data, the model or the machine".
    """

    data: str = _option(
        "digits",
        "data",
        f"{NAMES[0]} (built in); {', '.join(NAMES[1:])} (with --data-root); a folder or .zip of images, a folder of "
        "parquet files, or a .txt file of lines 'path label'",
    )
    data_root: str | None = _option(
        None, "data", "folder with a benchmark's files, or to which the paths of a .txt file are relative"
    )
    test_list: str | None = _option(None, "data", "the test images, where --data is a .txt file")
    label_column: str | None = _option(None, "data", "column of the labels, where parquet files have several")
    download: bool = _option(
        False, "data", "fetch cifar10 or cifar100 into --data-root unless there", changes_result=False
    )
    imbalance_ratio: float | None = _option(
        None, "data", "largest over smallest class count, which the training set is cut to", low=1
    )
    profile: str = _option(
        "exp", "data", "how class counts fall: exponentially, or in one step in the middle", choices=PROFILES
    )
    selection: str | None = _option(
        None,
        "data",
        "which images of a class stay: the first after a seeded shuffle, or the first; default: seeded for the "
        "benchmarks, else first",
        choices=SELECTIONS,
    )
    selection_seed: int = _option(0, "data", "seed of that shuffle, not that of the run", low=0, high=2**32 - 1)
    img_size: int | None = _option(None, "data", "side of the square the network sees, in pixels", low=4)
    augment: str = _option(
        "auto",
        "data",
        "training-time augmentation: shifted crops, mirrored too, or random resized crops (rrc); "
        "auto is none for digits, crop-flip up to 96 pixels, rrc above",
        choices=("auto", *AUGMENTATIONS),
    )
    holdout: float = _option(
        0.0,
        "data",
        "share of each class's training images that is held out and scored in place of the test set",
        low=0,
        below=1,
    )
    test_flip: bool = _option(False, "data", "score the mean of the logits of an image and of its mirror image")
    view_augment: str = _option(
        "auto",
        "data",
        "augmentation of the further views that --contrast compares; auto is crop for digits, else simclr",
        choices=("auto", *AUGMENTATIONS[1:]),
    )
    cache_gb: float | None = _option(
        None, "data", "memory for decoded images, in 10^9 bytes", low=0, changes_result=False
    )

    model: str = _option(
        "convnet", "model", "convnet, cifar_resnet8/20/32/44/56 (with x2 or x4: wider) or any timm model"
    )
    patch_size: int | None = _option(None, "model", "patch side of a transformer, in pixels", low=1)
    pretrained: bool = _option(False, "model", "start from timm's published weights (downloaded once)")

    loss: str = _option(
        "ce",
        "method",
        f"training loss, +drw behind it defers class weights; {names('loss')}",
    )
    drw_epoch: int | None = _option(None, "method", "first epoch of +drw; default: after 80 % of them", low=1)
    regularizer: str = _option("none", "method", f"what joins the loss, several with + between; {names('regularizer')}")
    head: str = _option("linear", "method", f"classifier on top of the features; {names('head')}")
    sampler: str = _option("instance", "method", f"how training images are drawn; {names('sampler')}")
    mix: str = _option("none", "method", f"how images are mixed; {names('mix')}")
    contrast: str = _option("none", "method", f"how several views of each image are compared; {names('contrast')}")
    car: CAROptions = dataclasses.field(default_factory=CAROptions)

    stage2: str | None = _option(
        None,
        "second stage",
        "folder of a finished run: keep its network and train a new head on it; its options become the defaults",
    )
    retrain: str | None = _option(
        None,
        "second stage",
        f"how, sets the defaults of loss, head, sampler and schedule; {names('stage2')}",
    )
    bn: str = _option(
        "eval",
        "second stage",
        "batch normalisation: eval freezes it, and the features are computed once; train lets its averages move, as "
        "published code does, and computes them anew in every step",
        choices=("eval", "train"),
    )

    epochs: int = _option(40, "optimisation", "passes over the training set", low=1)
    batch_size: int = _option(64, "optimisation", "images a step", low=1)
    optimizer: str = _option("adamw", "optimisation", "update rule", choices=("sgd", "adamw"))
    lr: float = _option(3e-3, "optimisation", "peak learning rate", above=0)
    min_lr: float = _option(0.0, "optimisation", "learning rate at the end of the cosine", low=0)
    schedule: str = _option(
        "cosine", "optimisation", "how the learning rate falls after the warm-up", choices=("cosine", "step")
    )
    step_epochs: str | None = _option(
        None, "optimisation", "after which epochs a step schedule lowers the rate, such as 160,180"
    )
    step_factor: float = _option(0.1, "optimisation", "what each of them multiplies the rate by", above=0, below=1)
    warmup_epochs: float = _option(1.0, "optimisation", "epochs of linear warm-up, may be a fraction", low=0)
    momentum: float = _option(0.9, "optimisation", "momentum of sgd; adamw ignores it", low=0, below=1)
    weight_decay: float = _option(0.05, "optimisation", "weight decay, on all parameters", low=0)
    clip_grad: float | None = _option(None, "optimisation", "largest gradient norm of a step", above=0)
    amp: str = _option(
        "auto",
        "optimisation",
        "half precision, on CUDA only; auto is bf16 where supported, else fp16",
        choices=("auto", "none", "bf16", "fp16"),
    )
    channels_last: bool | None = _option(None, "optimisation", "channels-last weights; default: on CUDA")

    seed: int = _option(0, "run", "fixes initial weights, order and augmentation", low=0, high=2**32 - 1)
    out: str | None = _option(
        None, "run", "folder of the run; default: runs/DATA-MODEL-METHOD-seedN", changes_result=False
    )
    resume: bool = _option(False, "run", "go on from the last checkpoint of --out", changes_result=False)
    device: str = _option("auto", "run", "auto, cpu, cuda or cuda:N")
    threads: int | None = _option(
        None,
        "run",
        "CPU threads; default: as many as cores, but 1 for images up to 16 pixels, where more cost time",
        low=1,
        changes_result=False,
    )
    workers: int | None = _option(
        None, "run", "processes that load images; default: 0 if cached", low=0, changes_result=False
    )

    def __post_init__(self) -> None:
        _check_fields(self)
        if self.warmup_epochs > self.epochs:
            raise InputError(f"warmup_epochs is {self.warmup_epochs:g}, more than all {self.epochs} epochs; lower it.")
        if self.min_lr > self.lr:
            raise InputError(f"min_lr is {self.min_lr}, above the peak lr of {self.lr}; lower it.")
        if self.schedule == "step" and not self.step_epochs:
            raise InputError("schedule is step, but step_epochs does not say when, such as 160,180.")
        drops = [self.warmup_epochs, *self.drop_epochs, self.epochs]
        if any(later <= earlier for earlier, later in pairwise(drops)) and self.schedule == "step":
            raise InputError(
                f"step_epochs is {self.step_epochs}, but must rise from above the {self.warmup_epochs:g} epochs of "
                f"warm-up to below all {self.epochs}."
            )
        if self.retrain and not self.stage2:
            raise InputError(f"retrain is {self.retrain}, but there is no --stage2 RUN to take the network from.")
        if self.stage2 and self.contrast != "none":
            raise InputError(f"contrast is {self.contrast}, but a second stage trains no features; leave it out.")

    @property
    def method(self) -> str:
        """The words that make the method, such as ``ce``, ``ce+car`` or ``ldam+drw+cosine``."""
        defaults = {"regularizer": "none", "head": "linear", "sampler": "instance", "mix": "none", "contrast": "none"}
        words = [self.loss, *(getattr(self, key) for key, usual in defaults.items() if getattr(self, key) != usual)]
        return self.retrain or "+".join(words)

    @property
    def drop_epochs(self) -> list[int]:
        """After which epochs the rate falls by ``step_factor``; none for a cosine."""
        words = (self.step_epochs or "").split(",") if self.schedule == "step" else []
        return [convert(word, int, "step_epochs") for word in words]

    @property
    def data_options(self) -> DataOptions:
        """Where the data's files are and how they are cut."""
        return DataOptions(**{field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)})

    @property
    def run_dir(self) -> Path:
        """Where the run is written: ``out``, or a name made of data, model, method and seed."""
        if self.out:
            return Path(self.out)
        method = re.sub(r"[^\w.+=-]", "-", self.method)
        if self.stage2:
            return Path(self.stage2).with_name(f"{Path(self.stage2).name}-{method}")
        return Path("runs") / f"{Path(self.data).stem}-{self.model}-{method}-seed{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values that YAML and JSON can hold; ``from_dict`` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> "Config":
        """Build from a nested (``{"car": {"alpha": 1}}``) mapping, as read from YAML.

        Raises :class:`InputError` naming ``where`` for an unknown key, a wrong type or a bad value.
        """
        return _build(_convert_all(_flatten(values, where), where))

    def with_options(self, values: Mapping[str, Any], where: str) -> "Config":
        """This job with some options changed; raises :class:`InputError` as :meth:`from_dict`."""
        return _build(_flatten(self.to_dict(), where) | _convert_all(_flatten(values, where), where))

    @classmethod
    def second_stage(cls, run_dir: Path, values: Mapping[str, Any], where: str) -> "Config":
        """The job that trains a new head on the run in ``run_dir``, with ``values`` over what it takes over."""
        flat = _convert_all(_flatten({**values, "stage2": str(run_dir)}, where), where)
        return _build(_first_stage(flat) | flat)

    @classmethod
    def from_yaml(cls, path: Path) -> "Config":
        """Read a file such as the ``config.yaml`` of a run; raises :class:`InputError` naming it."""
        return _build(_read_yaml(path))

    def differences(self, other: "Config") -> list[str]:
        """Keys (such as ``lr`` or ``car.alpha``) in which a run of ``other`` could give another result."""
        return [
            key
            for key, field in _FIELDS.items()
            if field.metadata["changes_result"] and _get(self, key) != _get(other, key)
        ]


def parse(
    argv: Sequence[str] | None = None,
    *,
    recipes: Path | None = None,
    description: str = "",
    examples: str = "",
) -> Config:
    """Read a command line (default ``sys.argv[1:]``) into a :class:`Config`.

    ``--config FILE.yaml`` sets defaults that the other flags override; a bare name means
    ``recipes/NAME.yaml`` when ``recipes`` is given. ``base: [other, parts/another]`` in such a file names files beside
    it whose options come before its own. Every mistake raises :class:`InputError`.
    """
    parser = _parser(description, examples)
    found, unknown = parser.parse_known_args(argv)
    if unknown:
        flags = ["--config", "--help", *map(_flag, _FIELDS)]
        raise InputError(f"{unknown[0]} is not an option{_suggest(unknown[0].split('=')[0], flags)}")
    given = vars(found)
    path = given.pop("config", None)
    values = _read_yaml(find_recipe(path, recipes)) if path else {}
    values |= {key: _convert(_FIELDS[key], value, _flag(key)) for key, value in given.items()}
    return _build(_first_stage(values) | values)


def _first_stage(values: Mapping[str, Any]) -> dict[str, Any]:
    """What a second stage takes over: the options of the first, then those that its name stands for."""
    if not values.get("stage2"):
        return {}
    taken = _read_yaml(Path(values["stage2"]) / "config.yaml")
    for own in ("out", "resume", "stage2", "retrain", "bn", "drw_epoch", "contrast"):
        taken.pop(own, None)
    if name := values.get("retrain"):
        method, _ = registry.parse("stage2", name)
        taken |= method.build()
    return taken


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> typing.NoReturn:
        raise InputError(f"{message}; run with --help for the options.")


def _parser(description: str, examples: str) -> argparse.ArgumentParser:
    parser = _Parser(
        description=description,
        epilog=examples,
        allow_abbrev=False,  # a misspelt flag must not silently mean another one
        argument_default=argparse.SUPPRESS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--config", metavar="FILE", help="YAML file or recipe name that sets defaults")
    groups: dict[str, Any] = {}
    for key, field in _FIELDS.items():
        name = field.metadata["group"]
        group = groups.setdefault(name, None) or parser.add_argument_group(name)
        groups[name] = group
        help = field.metadata["help"].replace("%", "%%")
        if field.default is not None:
            help += f" (default: {str(field.default).lower() if _kind(field) is bool else field.default})"
        if _kind(field) is bool:
            group.add_argument(_flag(key), dest=key, action=argparse.BooleanOptionalAction, help=help)
        else:
            choices = ",".join(field.metadata["choices"])
            metavar = f"{{{choices}}}" if choices else _METAVAR[_kind(field)]
            group.add_argument(_flag(key), dest=key, metavar=metavar, help=help)
    return parser


def read_methods(name: str, folder: Path) -> dict[str, dict[str, Any]]:
    """A file of methods, ``METHOD: {option: value}``, by path or by its name in ``folder``.

    Raises :class:`InputError` for a file that is not one; the options are checked where they are used.
    """
    path = find_recipe(name, folder, "--methods")
    content = read_mapping(path)
    for method, options in content.items():
        if not isinstance(options, dict) or not re.fullmatch(r"[\w.+-]+", str(method)):
            raise InputError(f"{path} holds {method!r}: {options!r}, but must hold lines 'NAME: {{option: value}}'.")
    return content


def find_recipe(path: str, folder: Path | None, flag: str = "--config") -> Path:
    """The YAML file that ``flag`` names: its path, or the name of one in ``folder``.

    Raises :class:`InputError` for a name that is not there.
    """
    file = Path(path)
    if folder is None or file.suffix or len(file.parts) > 1:
        return file
    known = sorted(recipe.stem for recipe in folder.glob("*.yaml"))
    if path not in known:
        raise InputError(f"{flag} {path} is neither a YAML file nor one of {folder.name}{_suggest(path, known)}")
    return folder / f"{path}.yaml"


def _read_yaml(path: Path, above: tuple[Path, ...] = ()) -> dict[str, Any]:
    """The options of the files that its ``base`` names, in that order, then its own."""
    chain = (*above, path.resolve())
    if chain[-1] in above:
        names = " -> ".join(file.stem for file in chain[above.index(chain[-1]) :])
        raise InputError(f"{path} is a base of itself ({names}); take one of these bases out.")
    content, options = read_mapping(path), {}
    bases = content.pop("base", [])
    if not isinstance(bases, list):
        raise InputError(f"base of {path} is {bases!r}, but must be a list of recipes, such as [cifar10_lt].")
    for name in bases:
        options |= _read_yaml(_base(str(name), path), chain)
    return options | _convert_all(_flatten(content, str(path)), str(path))


def _base(name: str, path: Path) -> Path:
    """The file that ``base`` of ``path`` calls ``name``: its path from there, without .yaml."""
    base = path.parent / f"{name}.yaml"
    if not base.is_file():
        known = sorted(str(Path(name).parent / file.stem) for file in base.parent.glob("*.yaml") if file != path)
        raise InputError(f"base of {path} names {name}, but there is no {base}{_suggest(name, known)}")
    return base


def read_mapping(path: Path) -> dict[str, Any]:
    """What a YAML file holds, unchecked; raises :class:`InputError` if that is not ``key: value`` lines."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the configuration {path} cannot be read ({error}); check the path.") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is not valid YAML: {' '.join(str(error).split())}.") from error
    if content is not None and not isinstance(content, dict):
        raise InputError(f"{path} holds a {type(content).__name__}, but must hold 'key: value' lines.")
    return content or {}


def option_value(key: str, value: Any, where: str) -> Any:
    """A raw ``value`` as the option ``key``, such as ``lr`` or ``car.alpha``, holds it.

    Raises :class:`InputError` naming ``where`` for an unknown key, a wrong type or a bad value.
    """
    return _convert_all({key: value}, where)[key]


def _flatten(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    flat = {}
    for key, value in values.items():
        if key == "car":
            if not isinstance(value, Mapping):
                raise InputError(f"car in {where} is {value!r}, but must be like {{alpha: 0.5}}.")
            flat |= {f"car.{inner}": option for inner, option in value.items()}
        else:
            flat[str(key)] = value
    return flat


def _convert_all(flat: Mapping[str, Any], where: str) -> dict[str, Any]:
    unknown = next((key for key in flat if key not in _FIELDS), None)
    if unknown is not None:
        raise InputError(f"{unknown} in {where} is not an option{_suggest(unknown, _FIELDS)}")
    return {key: _convert(_FIELDS[key], value, f"{key} in {where}") for key, value in flat.items()}


def _convert(field: dataclasses.Field, value: Any, where: str) -> Any:
    """One raw value (a command-line string or a YAML scalar) as the field's type, within its limits."""
    kind, text = _kind(field), str(value).strip()
    if field.default is None and (value is None or text.lower() == "none"):
        return None
    result = convert(value, kind, where)
    _check(field, result, where)
    return result


def _check(field: dataclasses.Field, value: Any, where: str) -> None:
    choices, limits = field.metadata["choices"], field.metadata["limits"]
    if choices and value not in choices:
        raise InputError(f"{where} is {value!r}, but must be one of {', '.join(choices)}{_suggest(value, choices)}")
    if _kind(field) in (int, float):
        inside = {">=": value >= limits.get(">=", value), ">": value > limits.get(">", -math.inf)}
        inside |= {"<=": value <= limits.get("<=", value), "<": value < limits.get("<", math.inf)}
        if not (-math.inf < value < math.inf and all(inside.values())):
            allowed = " and ".join(f"{sign} {limit:g}" for sign, limit in limits.items())
            raise InputError(f"{where} is {value}, but must be a finite number{allowed and ' ' + allowed}.")


def _check_fields(options: Any, prefix: str = "") -> None:
    for field in dataclasses.fields(options):
        value = getattr(options, field.name)
        if field.metadata and not (value is None and field.default is None):
            # The dataclass is frozen; this turns an int given for a float into that float.
            object.__setattr__(options, field.name, _convert(field, value, prefix + field.name))


def _build(values: Mapping[str, Any]) -> Config:
    plain = {key: value for key, value in values.items() if "." not in key}
    car = {key.removeprefix("car."): value for key, value in values.items() if "." in key}
    return Config(**plain, car=CAROptions(**car))


def _get(config: Config, key: str) -> Any:
    return getattr(config.car, key.removeprefix("car.")) if "." in key else getattr(config, key)


def _kind(field: dataclasses.Field) -> type:
    """The type of a value: ``float`` for a field annotated ``float | None``."""
    if isinstance(field.type, types.UnionType):
        return next(kind for kind in typing.get_args(field.type) if kind is not types.NoneType)
    return field.type


def _flag(key: str) -> str:
    return "--" + key.replace(".", "-").replace("_", "-")


def _suggest(word: str, known: typing.Iterable[str]) -> str:
    known = list(known)
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else f"; there are {', '.join(known)}."


_METAVAR = {int: "N", float: "X", str: "NAME"}
_FIELDS: dict[str, dataclasses.Field] = {}
for _field in dataclasses.fields(Config):
    if _field.name == "car":
        _FIELDS |= {f"car.{option.name}": option for option in dataclasses.fields(CAROptions)}
    else:
        _FIELDS[_field.name] = _field
