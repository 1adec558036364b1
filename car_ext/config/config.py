"""A training job as one typed value: every option with its default, help and limits."""

import dataclasses
import re
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

from car_ext.datasets import NAMES, PROFILES, SELECTIONS, DataOptions
from car_ext.datasets.statistics import CONSTANTS
from car_ext.errors import InputError, suggest
from car_ext.methods.augment.images import BASES, MODIFIERS, check_augmentation
from car_ext.methods.regularizers import split_words
from car_ext.methods.regularizers.car import CAROptions
from car_ext.methods.table import names
from car_ext.option import check_fields, field_value, option
from car_ext.values import convert


@dataclasses.dataclass(frozen=True)
class Config:
    """One training job. Without any option: the built-in digits, about two seconds on a laptop.

    Every value is checked on construction. `None` means "decide from the data, the model or the machine".

    Raises:
        InputError: a value that is not allowed; it names the key, the value and what would be.
    """

    data: str = option(
        "digits",
        "data",
        f"{NAMES[0]} (built in); {', '.join(NAMES[1:])} (with --data-root); a folder or .zip of images, a folder of "
        "parquet files or tar shards, a .txt file of lines 'path label', or a .csv file of such columns",
    )
    data_root: str | None = option(
        None, "data", "folder with a benchmark's files, or to which the paths of a .txt or .csv file are relative"
    )
    test_list: str | None = option(None, "data", "the test images, where --data is a .txt or .csv file")
    label_column: str | None = option(
        None, "data", "column of the labels, where parquet files or a .csv file have several"
    )
    download: bool = option(
        False, "data", "fetch cifar10 or cifar100 into --data-root unless there", changes_result=False
    )
    imbalance_ratio: float | None = option(
        None, "data", "largest over smallest class count, which the training set is cut to", low=1
    )
    profile: str = option(
        "exp", "data", "how class counts fall: exponentially, or in one step in the middle", choices=PROFILES
    )
    selection: str | None = option(
        None,
        "data",
        "which images of a class stay: the first after a seeded shuffle, or the first; default: seeded for the "
        "benchmarks, else first",
        choices=SELECTIONS,
    )
    selection_seed: int = option(0, "data", "seed of that shuffle, not that of the run", low=0, high=2**32 - 1)
    img_size: int | None = option(
        None,
        "data",
        "side of the square the network sees, in pixels; default: that of the --pretrained weights, else the images'",
        low=4,
    )
    resize: int | None = option(
        None,
        "data",
        "side that images are brought to before --img-size is cut from them; default: that size, but 1.1 of it for "
        "random resized crops",
        low=4,
    )
    normalize: str = option(
        "auto",
        "data",
        "mean and standard deviation of the pixels that the network sees as 0 and 1: of the training images, or "
        "published constants; auto is those of --pretrained weights, else the training images'",
        choices=("auto", *CONSTANTS),
    )
    augment: str = option(
        "auto",
        "data",
        f"training-time augmentation: none or {', '.join(BASES)}, with any of +{', +'.join(MODIFIERS)} behind it; auto "
        "is none for digits, crop-flip up to 96 pixels, rrc above",
    )
    test_share: float | None = option(
        None,
        "data",
        "share of each class that is set aside as the test images, where the data have none of their own; default: 0.2",
        low=0,
        below=1,
    )
    val_share: float = option(
        0.0,
        "data",
        "share of each class's training images that is set aside to make choices by, such as the best epoch, where the "
        "data have no validation images of their own",
        low=0,
        below=1,
    )
    split_seed: int = option(
        0,
        "data",
        "seed of those choices, not that of the run: runs over seeds are scored on the same images",
        low=0,
        high=2**32 - 1,
    )
    groups: str | None = option(
        None,
        "data",
        "what keeps images together in one split, such as those of a patient or a part: a column of a .csv file, or a "
        "regular expression whose first parenthesis in a file's path is the group, such as '(patient[0-9]+)'",
    )
    holdout: float = option(
        0.0,
        "data",
        "share of each class's training images that is held out and scored in place of the test set",
        low=0,
        below=1,
    )
    test_flip: bool = option(False, "data", "score the mean of the logits of an image and of its mirror image")
    view_augment: str = option(
        "auto",
        "data",
        "of the further views that --contrast compares, as --augment; auto is crop for digits, else simclr",
    )
    cache_gb: float | None = option(
        None,
        "data",
        "memory for decoded images that are in no file of --cache-dir, in 10^9 bytes; 0 decodes every image each time, "
        "from files; default: a quarter of what is free",
        low=0,
        changes_result=False,
    )
    cache_dir: str = option(
        "auto",
        "data",
        "folder where images whose decoding takes seconds are kept decoded, from one start to the next, up to half of "
        "the disk that is free; none keeps none; auto is the system's folder for caches, ~/.cache/car_ext on Linux",
        changes_result=False,
    )

    model: str = option(
        "convnet",
        "model",
        "convnet, cifar_resnet8/20/32/44/56 (with x2 or x4: wider) or any timm model, also "
        "hf-hub:OWNER/NAME and local-dir:FOLDER",
    )
    patch_size: int | None = option(None, "model", "patch side of a transformer, in pixels", low=1)
    pretrained: str | None = option(
        None,
        "model",
        "start from published weights: those of the model's name, downloaded once, or those of a FILE (.safetensors, "
        ".pth, .pt, .bin); without --config the options of the recipe finetune become the defaults",
        alone="timm",
    )
    stem: str = option(
        "auto",
        "model",
        "first layer of a convolutional network of timm: as it is made, or 3x3 at stride 1, which keeps the resolution "
        "of small images; auto is wide for new weights and images of up to 64 pixels, else keep",
        choices=("auto", "keep", "wide"),
    )
    init: str = option(
        "model",
        "model",
        "initial weights: as the model's code draws them, or as torch does by default for each kind of layer",
        choices=("model", "torch"),
    )

    loss: str = option(
        "ce",
        "method",
        lambda: f"training loss, +drw behind it defers class weights; {names('loss')}",
    )
    drw_epoch: int | None = option(None, "method", "first epoch of +drw; default: after 80 % of them", low=1)
    regularizer: str = option(
        "none", "method", lambda: f"what joins the loss, several with + between; {names('regularizer')}"
    )
    head: str = option("linear", "method", lambda: f"classifier on top of the features; {names('head')}")
    sampler: str = option("instance", "method", lambda: f"how training images are drawn; {names('sampler')}")
    mix: str = option("none", "method", lambda: f"how images are mixed; {names('mix')}")
    contrast: str = option(
        "none", "method", lambda: f"how several views of each image are compared; {names('contrast')}"
    )
    car: CAROptions = dataclasses.field(default_factory=CAROptions)

    stage2: str | None = option(
        None,
        "second stage",
        "folder of a finished run: keep its network and train a new head on it; its options become the defaults",
    )
    retrain: str | None = option(
        None,
        "second stage",
        lambda: f"how, sets the defaults of loss, head, sampler and schedule; {names('stage2')}",
    )
    sync_bn: bool = option(
        False,
        "optimisation",
        "of several processes: batch normalisation over the images of all, on GPUs; without, each normalises its own",
    )
    bn: str = option(
        "eval",
        "second stage",
        "where the head alone is trained, batch normalisation: eval freezes it, and the features are computed once; "
        "train lets its averages move, as published code does, and computes them anew in every step",
        choices=("eval", "train"),
    )

    tune: str = option(
        "full",
        "optimisation",
        "what is trained beside the head: everything; nothing (head, or --freeze: on features computed once, without "
        "augmentation, see --bn); the normalisations; or new layers in each block of a transformer: low-rank updates "
        "of its attention (lora), bottlenecks beside its MLPs (adaptformer)",
        choices=("full", "head", "norm", "lora", "adaptformer"),
    )
    epochs: int = option(40, "optimisation", "passes over the training set", low=1)
    batch_size: int = option(64, "optimisation", "images a step", low=1)
    optimizer: str = option("adamw", "optimisation", "update rule", choices=("sgd", "adamw"))
    lr: float = option(3e-3, "optimisation", "peak learning rate", above=0)
    min_lr: float = option(0.0, "optimisation", "learning rate at the end of the cosine", low=0)
    schedule: str = option(
        "cosine",
        "optimisation",
        "how the learning rate goes on after the warm-up",
        choices=("cosine", "step", "constant"),
    )
    step_epochs: str | None = option(
        None, "optimisation", "after which epochs a step schedule lowers the rate, such as 160,180"
    )
    step_factor: float = option(0.1, "optimisation", "what each of them multiplies the rate by", above=0, below=1)
    warmup_epochs: float = option(1.0, "optimisation", "epochs of linear warm-up, may be a fraction", low=0)
    momentum: float = option(0.9, "optimisation", "momentum of sgd; adamw ignores it", low=0, below=1)
    nesterov: bool = option(False, "optimisation", "Nesterov's momentum for sgd; adamw ignores it")
    weight_decay: float = option(0.05, "optimisation", "weight decay", low=0)
    decay_norm: bool = option(
        True,
        "optimisation",
        "weight decay also on biases, normalisations and what else a model of timm leaves out of it",
    )
    layer_decay: float | None = option(
        None,
        "optimisation",
        "factor of the learning rate from each layer of a timm model to the one before; 0.65 to 0.8 suit fine-tuning",
        above=0,
        high=1,
    )
    ema: float | None = option(
        None,
        "optimisation",
        "average the weights: the share of the average that stays in a step, such as 0.999, less in the first steps; "
        "the average is scored, kept and exported",
        above=0,
        below=1,
    )
    accumulate: int = option(
        1, "optimisation", "batches whose gradients make one step, as a batch that many times as large", low=1
    )
    clip_grad: float | None = option(None, "optimisation", "largest gradient norm of a step", above=0)
    amp: str = option(
        "auto",
        "optimisation",
        "half precision; auto is bf16 on CUDA where supported, else fp16; on a CPU bf16 where that is faster (AMX, or "
        "AMD's AVX512-BF16; no depthwise convolutions, images above 16 pixels, more trained than the head), else none; "
        "any CPU with AVX512-BF16 or AMX takes bf16; a run that is resumed goes on in the precision it began in",
        choices=("auto", "none", "bf16", "fp16"),
    )
    compile: bool = option(
        False,
        "optimisation",
        "let torch.compile fuse the network's layers, which takes a minute or so at the start; on a CPU it needs a C++ "
        "compiler",
    )
    checkpointing: bool = option(
        False,
        "optimisation",
        "keep only some of a timm model's activations and compute the others anew in the backward pass: less memory, "
        "more time",
    )
    channels_last: bool | None = option(None, "optimisation", "channels-last weights; default: on CUDA")

    keep: str = option(
        "auto",
        "validation",
        "whose weights are kept, tested and exported: of the best epoch on the validation images, or of the last; auto "
        "is best where there are such images",
        choices=("auto", "best", "last"),
    )
    keep_by: str = option(
        "balanced",
        "validation",
        "the score that makes an epoch the best: overall, balanced, worst, many, medium or few, as val_NAME in "
        "metrics.jsonl; of equal epochs the first",
    )
    patience: int | None = option(
        None, "validation", "end after this many epochs in a row that are no better on the validation images", low=1
    )

    seed: int = option(0, "run", "fixes initial weights, order and augmentation", low=0, high=2**32 - 1)
    out: str | None = option(
        None, "run", "folder of the run; default: runs/DATA-MODEL-METHOD-seedN", changes_result=False
    )
    resume: bool = option(False, "run", "go on from the last checkpoint of --out", changes_result=False)
    logits: bool = option(
        False,
        "run",
        "keep every class's logit of each scored image in predictions.parquet, 4 bytes each; car-ext labels needs them",
        changes_result=False,
    )
    device: str = option("auto", "run", "auto, cpu, cuda or cuda:N")
    threads: int | None = option(
        None,
        "run",
        "CPU threads; default: as many as cores, but 1 for images up to 16 pixels, where more cost time",
        low=1,
        changes_result=False,
    )
    workers: int | None = option(
        None, "run", "processes that load images; default: 0 if cached", low=0, changes_result=False
    )

    def __post_init__(self) -> None:
        check_fields(self)
        self._check_car()
        check_augmentation(self.augment, "augment", "auto", "none")
        check_augmentation(self.view_augment, "view_augment", "auto")
        if self.resize and self.img_size and self.resize < self.img_size:
            raise InputError(f"resize is {self.resize}, less than the {self.img_size} of img_size; raise it.")
        if self.nesterov and self.optimizer == "sgd" and not self.momentum:
            raise InputError("nesterov is a form of momentum, but momentum is 0; raise it, or leave nesterov out.")
        if self.pretrained and self.init != "model":
            raise InputError(f"init is {self.init}, but pretrained says where the weights come from; keep one.")
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
        if self.stage2 and self.tune != "full":
            raise InputError(f"tune is {self.tune}, but a second stage trains its head alone; leave it out.")
        if self.compile and self.checkpointing:
            raise InputError("compile and checkpointing are both on, but a compiled network chooses itself; keep one.")
        for key in ("compile", "checkpointing"):
            if self.head_alone and getattr(self, key):
                raise InputError(f"{key} is on, but the head alone is trained, which has no use for it; leave it out.")
        if self.head_alone and self.contrast != "none":
            raise InputError(f"contrast is {self.contrast}, but the head alone trains no features; leave it out.")

    def _check_car(self) -> None:
        """Refuse an option of CAR that its word gives and `car` contradicts; a default contradicts nothing."""
        given = split_words(self.regularizer)[0] or {}
        for key, value in given.items():
            other = getattr(self.car, key)
            if other not in (value, getattr(CAROptions, key)):
                raise InputError(
                    f"regularizer {self.regularizer} says {key}={value}, but car.{key} (--car-{key}) is {other}; "
                    "give it once."
                )
        dataclasses.replace(self.car, **given)  # within the limits

    @property
    def car_options(self) -> CAROptions:
        """What CAR is built with: `car`, and over it what the word `car:...` in `regularizer` gives."""
        return dataclasses.replace(self.car, **(split_words(self.regularizer)[0] or {}))

    def with_car(self, **options: Any) -> "Config":
        """This job with these options of CAR; what its word gave stands in `car` then."""
        words = ["car" if word.startswith("car:") else word for word in self.regularizer.split("+")]
        car = dataclasses.replace(self.car_options, **options)
        return dataclasses.replace(self, regularizer="+".join(words), car=car)

    @property
    def method(self) -> str:
        """The words that make the method, such as `ce`, `ce+car` or `ldam+drw+cosine`."""
        defaults = {"regularizer": "none", "head": "linear", "sampler": "instance", "mix": "none", "contrast": "none"}
        words = [self.loss, *(getattr(self, key) for key, usual in defaults.items() if getattr(self, key) != usual)]
        return self.retrain or "+".join(words)

    @property
    def head_alone(self) -> bool:
        """Whether the backbone stays as it is."""
        return bool(self.stage2) or self.tune == "head"

    @property
    def drop_epochs(self) -> list[int]:
        """After which epochs the rate falls by `step_factor`; none for a cosine."""
        words = (self.step_epochs or "").split(",") if self.schedule == "step" else []
        return [convert(word, int, "step_epochs") for word in words]

    @property
    def data_options(self) -> DataOptions:
        """Where the data's files are and how they are cut."""
        return DataOptions(**{field.name: getattr(self, field.name) for field in dataclasses.fields(DataOptions)})

    @property
    def model_name(self) -> str:
        """The model as a part of the name of a file."""
        return re.sub(r"[^\w.+=-]", "-", self.model)

    @property
    def run_dir(self) -> Path:
        """Where the run is written: `out`, or a name made of data, model, method and seed."""
        if self.out:
            return Path(self.out)
        method = re.sub(r"[^\w.+=-]", "-", self.method)
        if self.stage2:
            return Path(self.stage2).with_name(f"{Path(self.stage2).name}-{method}")
        return Path("runs") / f"{Path(self.data).stem}-{self.model_name}-{method}-seed{self.seed}"

    def to_dict(self) -> dict[str, Any]:
        """Plain nested values that YAML and JSON can hold; `from_dict` reads them back."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any], where: str = "the configuration") -> "Config":
        """Build from a nested (`{"car": {"alpha": 1}}`) mapping, as read from YAML.

        Raises:
            InputError: an unknown key, a wrong type or a bad value; it names `where`.
        """
        return cls.from_options(option_values(values, where))

    @classmethod
    def from_options(cls, options: Mapping[str, Any]) -> "Config":
        """Build from options by key, as of `option_values`."""
        plain = {key: value for key, value in options.items() if "." not in key}
        car = {key.removeprefix("car."): value for key, value in options.items() if "." in key}
        return cls(**plain, car=CAROptions(**car))

    def with_options(self, values: Mapping[str, Any], where: str) -> "Config":
        """This job with some options changed.

        Raises:
            InputError: as `from_dict`.
        """
        return self.from_options(option_values(self.to_dict(), where) | option_values(values, where))

    def differences(self, other: "Config") -> list[str]:
        """Keys (such as `lr` or `car.alpha`) in which a run of `other` could give another result."""
        return [
            key
            for key, field in OPTIONS.items()
            if field.metadata["changes_result"] and _get(self, key) != _get(other, key)
        ]


OPTIONS: dict[str, dataclasses.Field] = {}  # by key, such as lr or car.alpha
for _outer in dataclasses.fields(Config):
    if _outer.name == "car":
        OPTIONS |= {f"car.{inner.name}": inner for inner in dataclasses.fields(CAROptions)}
    else:
        OPTIONS[_outer.name] = _outer


def option_value(key: str, value: Any, where: str) -> Any:
    """A raw `value` as the option `key`, such as `lr` or `car.alpha`, holds it.

    Raises:
        InputError: an unknown key, a wrong type or a bad value; it names `where`.
    """
    return field_value(_field(key, where), value, f"{key} in {where}")


def option_values(values: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The options of a nested mapping by key: `{"car": {"alpha": 1}}` gives `{"car.alpha": 1.0}`.

    Raises:
        InputError: as `option_value`.
    """
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if key == "car":
            if not isinstance(value, Mapping):
                raise InputError(f"car in {where} is {value!r}, but must be like {{alpha: 0.5}}.")
            flat |= {f"car.{inner}": inner_value for inner, inner_value in value.items()}
        else:
            flat[str(key)] = value
    fields = {key: _field(key, where) for key in flat}  # all of them before the first value
    return {key: field_value(field, flat[key], f"{key} in {where}") for key, field in fields.items()}


def _field(key: str, where: str) -> dataclasses.Field:
    if key not in OPTIONS:
        raise InputError(f"{key} in {where} is not an option{suggest(key, OPTIONS)}")
    return OPTIONS[key]


def _get(config: Config, key: str) -> Any:
    return getattr(config.car, key.removeprefix("car.")) if "." in key else getattr(config, key)
