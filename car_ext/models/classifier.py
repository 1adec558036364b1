"""Classifiers that take the stored image, uint8 (N, H, W, C), and give logits (N, K): a backbone and a head."""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.methods.heads import build_head
from car_ext.methods.heads.base import weight_of
from car_ext.models import tuning
from car_ext.models.small import NETWORKS, CIFARResNet
from car_ext.priors import PerClass


class Classifier(nn.Module):
    """Preprocessing, backbone and head in one module, so that training and deployment cannot differ.

    Attributes:
        built: how `build_model` builds the backbone anew: those of its arguments that are plain values.
        mean, std: buffers, float32 (C,), in units of intensity / 255.
        backbone: (N, C, H, W) to features (N, D).
        head: features to logits (N, K).
    """

    mean: Tensor
    std: Tensor

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
        self.built: dict[str, Any] = {}
        self.register_buffer("mean", torch.tensor(mean, dtype=torch.float32))
        self.register_buffer("std", torch.tensor(std, dtype=torch.float32))
        self.backbone = backbone
        self.head = head

    def features(self, images: Tensor) -> Tensor:
        """uint8 (or float of the same range) (N, H, W, C) to features (N, D)."""
        x = (images.to(self.mean.dtype) / 255 - self.mean) / self.std
        return self.backbone(x.permute(0, 3, 1, 2))

    def forward(self, images: Tensor) -> Tensor:
        """uint8 (N, H, W, C) to logits (N, K)."""
        return self.head(self.features(images))


def build_model(
    name: str,
    class_counts: PerClass,
    image_size: int,
    channels: int,
    mean: Sequence[float] | None,
    std: Sequence[float] | None,
    patch_size: int | None = None,
    pretrained: str | None = None,
    heads: Sequence[str] = ("linear",),
    init: str = "model",
    stem: str = "auto",
    options: Mapping[str, Any] | None = None,
    tune: str = "full",
) -> Classifier:
    """A classifier for square images of `image_size` pixels and `channels` channels.

    Args:
        name: `convnet`, `cifar_resnet8/20/32/44/56` (`x2` and `x4` behind it: as many times as wide), or any model of
            timm, `hf-hub:` and `local-dir:` included.
        class_counts: (K,) training images of each class.
        image_size: pixels of the side.
        channels: 1 or 3.
        mean, std: (C,) of the training images, of intensity / 255; None for those that `pretrained` weights expect.
        patch_size: of a transformer, in pixels.
        pretrained: begin from weights: "timm" for the published ones, or a file; None for new ones.
        heads: words of `car_ext.methods.heads`, each head beginning from the one before.
        init: "model" for the weights that the model's code draws, "torch" for PyTorch's default of every layer.
        stem: "keep", or "wide" to let a convolutional network's first layer see every pixel at stride 1; "auto" is wide
            for new weights and images of up to 64 pixels.
        options: further ones of a network of timm.
        tune: what of the backbone is trained, see `tuning.tune`.

    Raises:
        InputError: an unknown name, a size or patch the model cannot take, or weights that cannot be had.
    """
    if name in NETWORKS:
        given = {"--pretrained": pretrained, "--patch-size": patch_size, "--stem wide": stem == "wide"}
        if option := next((key for key, value in given.items() if value), None):
            raise InputError(f"--model {name} takes no {option}; leave it out, or choose a timm model.")
        backbone, built = NETWORKS[name](channels), {"name": name}
    else:
        from car_ext.models import timm_models  # timm takes a second to import, which the small networks do without

        backbone, built = timm_models.timm_model(name, image_size, channels, patch_size, pretrained, stem, options)
    if mean is None or std is None:
        from car_ext.models.timm_models import published_statistics

        mean, std = published_statistics(backbone, channels)
    if init == "torch":
        backbone.apply(_reset)
    tuning.tune(backbone, tune)
    model = Classifier(backbone, nn.Identity(), mean, std)
    model.built = built | ({"tune": tune} if tune in tuning.ADAPTERS else {})
    width = _feature_width(model, name, image_size, channels)
    head: nn.Module | None = None
    for word in heads:
        model.head = head = build_head(word, width, len(class_counts), class_counts, head)
    if isinstance(backbone, CIFARResNet) and heads[0] == "linear" and init == "model":
        nn.init.kaiming_normal_(weight_of(model.head))
    return model


def _reset(module: nn.Module) -> None:
    if callable(reset := getattr(module, "reset_parameters", None)):
        reset()


def _feature_width(model: Classifier, name: str, image_size: int, channels: int) -> int:
    """D of the features (N, D), found by trying the backbone out."""
    images = torch.zeros(1, image_size, image_size, channels, dtype=torch.uint8)
    training = model.training
    try:
        with torch.no_grad():
            shape = tuple(model.eval().features(images).shape)
    except Exception as error:  # whatever a network says about a map that became too small for it
        reason = " ".join(str(error).split())
        raise InputError(f"{name} cannot take {image_size} pixels ({reason}); change --img-size.") from error
    finally:
        model.train(training)
    if len(shape) != 2:
        raise InputError(f"{name} gives features {shape}, not one vector an image; try another model.")
    return shape[1]
