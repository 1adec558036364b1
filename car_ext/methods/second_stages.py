"""Second stages by name: how to train a new head on the features of a finished network.

Each is a set of options, as `train/run.py` takes them: the formula is in the loss, the head or the sampler they name.
"""

from typing import Any

from car_ext.methods.registry import register
from car_ext.methods.sources import DECOUPLING

_BAG = (
    "epochs, rate and decay of Zhang et al., AAAI 2021; along a cosine here, in their code after a warm-up of five "
    "epochs and in steps after 10 and 20 (--warmup-epochs 5 --schedule step --step-epochs 10,20 --batch-size 128)"
)
_BAG_OPTIONS = {"epochs": 30, "lr": 0.1, "weight_decay": 5e-4}
_LOS = "retraining table of Sun et al. (LOS), ICLR 2025"
_SAME_AS_LTWB = "its schedule is not published; here as weight balancing's second stage"

SHARED = {
    "loss": "ce",
    "regularizer": "none",
    "head": "finished",
    "sampler": "instance",
    "mix": "none",
    "schedule": "cosine",
    "optimizer": "sgd",
    "momentum": 0.9,
    "warmup_epochs": 0.0,
    "min_lr": 0.0,
    "weight_decay": 0.0,
}


def _stage2(name: str, values: dict[str, Any], **description: Any) -> None:
    @register("stage2", name, **description)
    def options() -> dict[str, Any]:
        return SHARED | values


_stage2(
    "crt",
    {"head": "linear", "sampler": "class_balanced", **_BAG_OPTIONS},
    title="Classifier re-training (cRT)",
    source=DECOUPLING,
    formula="a new linear head, class-balanced sampling",
    published="CIFAR10-LT / CIFAR100-LT IR100 ResNet-32: 74.99 / 40.26 (Zhang et al., AAAI 2021)",
    notes=_BAG,
)
_stage2(
    "lws",
    {"head": "lws", "sampler": "class_balanced", **_BAG_OPTIONS},
    title="Learnable weight scaling (LWS)",
    source=DECOUPLING,
    formula="a factor a class for the finished head, class-balanced sampling",
    published="CIFAR10-LT / CIFAR100-LT IR100 ResNet-32: 72.63 / 40.16 (Zhang et al., AAAI 2021)",
    notes=_BAG,
)
_stage2(
    "los",
    {"loss": "los", "epochs": 20, "lr": 5e-4, "batch_size": 64},
    title="Label over-smoothing (LOS)",
    source="Sun et al., ICLR 2025",
    formula="the finished head, cross-entropy with labels smoothed by 0.98",
    published="CIFAR100-LT IR100 ResNet-34 on weight-decayed features: 54.9",
    notes="0.98 is for 100 classes; with K of them and a share 3 / K for the true one it is (K - 3) / (K - 1), 0.78 at "
    "K = 10. First stage: weight decay 5e-3; published code leaves batch normalisation in training mode (--bn train)",
)
_stage2(
    "ltwb",
    {
        "loss": "cb_bce:form=softmax",
        "regularizer": "maxnorm",
        "weight_decay": 0.1,  # of the bias, too: left alone it would outweigh what becomes of the weights
        "epochs": 10,
        "lr": 0.01,
        "batch_size": 64,
    },
    title="Weight balancing (LTWB)",
    source="Alshammari et al., CVPR 2022",
    formula="the finished head, class-balanced loss, weight decay 0.1 and MaxNorm",
    published="CIFAR100-LT IR100 ResNet-34: 53.4",
    notes="first stage: weight decay 5e-3",
)
_stage2(
    "ldam",
    {"loss": "ldam", "head": "cosine", "epochs": 10, "lr": 0.1, "weight_decay": 5e-4},
    title="LDAM on finished features",
    source=_LOS,
    formula="a new cosine head, the LDAM loss",
    published="CIFAR100-LT IR100 ResNet-34: 52.94",
    notes="its schedule is not published; here cRT's rate for 10 epochs",
)
for _name, _loss, _title, _value in (
    ("balanced_softmax", "balanced_softmax", "Balanced softmax on finished features", "52.23"),
    ("focal", "focal", "Focal loss on finished features", "50.94"),
    ("cb_bce", "cb_bce", "Class-balanced binary cross-entropy on finished features", "53.31"),
):
    _stage2(
        _name,
        {"loss": _loss, "epochs": 10, "lr": 0.01, "batch_size": 64},
        title=_title,
        source=_LOS,
        formula=f"the finished head, loss {_loss}",
        published=f"CIFAR100-LT IR100 ResNet-34: {_value}",
        notes=_SAME_AS_LTWB,
    )
_stage2(
    "gml_nolb",
    {
        "loss": "gml_nolb",
        "head": "linear",
        "epochs": 10,
        "lr": 1e-3,
        "optimizer": "adamw",
        "schedule": "constant",
    },
    title="Geometric-mean loss on finished features (NOLB)",
    source="Du and Wu, CVPR 2023",
    formula="a new linear head, the geometric-mean loss",
    published="CIFAR100-LT IR100 ViT-S: 50.23 (as cited in arXiv 2603.16732)",
    notes="constant rate, as in the code of CAR, whose network stays in training mode: --bn train",
)
_stage2(
    "disalign",
    {"loss": "reweighted:rho=1.2", "head": "disalign", "epochs": 10, "lr": 0.1, "weight_decay": 5e-4},
    title="DisAlign",
    source="Zhang et al., CVPR 2021",
    formula="a calibration of the finished logits, cross-entropy with weights pi_k^-1.2",
    published="ImageNet-LT ResNeXt-50: 52.4",
    notes="published with batches of 256",
)
for _name, _head, _title, _source in (
    ("tau_norm", "tau_norm", "tau-normalised classifier", DECOUPLING),
    ("ncm", "ncm:metric=centred", "Nearest class mean", DECOUPLING),
    ("logit_adjusted", "logit_adjusted", "Post-hoc logit adjustment", "Menon et al., ICLR 2021"),
):
    _stage2(
        _name,
        {"head": _head, "epochs": 1},
        title=_title,
        source=_source,
        formula="nothing is trained; see the head",
    )
