"""Classifiers that take the stored image, uint8 (N, H, W, C), and give logits (N, K): a backbone and a head."""

import difflib
from collections.abc import Sequence
from functools import partial

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.heads import build_head

SMALL_IMAGE = 64  # up to this side a stem made for 224 pixels throws most of the image away
FEWEST_TOKENS = 64


class Classifier(nn.Module):
    """Preprocessing, backbone and head in one module, so that training and deployment cannot differ.

    Buffers ``mean`` and ``std``, float32 (C,), are in units of intensity / 255.
    """

    def __init__(self, backbone: nn.Module, head: nn.Module, mean: Sequence[float], std: Sequence[float]) -> None:
        super().__init__()
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
    class_counts: Sequence[int],
    image_size: int,
    channels: int,
    mean: Sequence[float],
    std: Sequence[float],
    patch_size: int | None = None,
    pretrained: bool = False,
    heads: Sequence[str] = ("linear",),
) -> Classifier:
    """A classifier for square images of ``image_size`` pixels and ``channels`` channels.

    Names: ``convnet``, ``cifar_resnet8/20/32/44/56`` (``x2`` and ``x4`` behind it: as many times as wide) and
    every model of timm; ``heads`` are words of ``car_ext.heads``, each head beginning from the one before.
    ``mean`` and ``std`` (C,) give way to the statistics of the published weights if ``pretrained``. Raises
    :class:`InputError` for an unknown name, a size or patch the model cannot take, or weights that cannot be had.
    """
    if name in _LOCAL:
        if pretrained or patch_size:
            option = "--pretrained" if pretrained else "--patch-size"
            raise InputError(f"--model {name} takes no {option}; leave it out, or choose a timm model.")
        backbone = _LOCAL[name](channels)
    elif timm.is_model(name):
        backbone = _timm_model(name, image_size, channels, patch_size, pretrained)
        if pretrained:
            mean, std = (_fit_channels(backbone.pretrained_cfg[key], channels) for key in ("mean", "std"))
    else:
        close = difflib.get_close_matches(name, [*_LOCAL, *timm.list_models()], n=1)
        hint = f"did you mean {close[0]}?" if close else "see timm.list_models() for what there is."
        raise InputError(f"--model {name} is not known; {hint}")
    model = Classifier(backbone, nn.Identity(), mean, std)
    width = _feature_width(model, name, image_size, channels)
    head = None
    for word in heads:
        head = build_head(word, width, len(class_counts), class_counts, head)
    model.head = head
    if isinstance(backbone, CIFARResNet) and heads[0] == "linear":
        nn.init.kaiming_normal_(model.head.weight)
    return model


def convnet(channels: int) -> nn.Sequential:
    """Three 3x3 convolutions with batch normalisation, one pooling between, global average: for 8 to 32 pixels."""

    def block(inputs: int, outputs: int) -> list[nn.Module]:
        convolution = nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)
        return [convolution, nn.BatchNorm2d(outputs), nn.ReLU()]

    return nn.Sequential(
        *block(channels, 32),
        *block(32, 64),
        nn.MaxPool2d(2),
        *block(64, 128),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


class CIFARResNet(nn.Module):
    """ResNet with 6n + 2 layers for 32x32 images (He et al. 2016, section 4.2), ``width`` times 16, 32 and 64 channels.

    Parameter-free ("option A") shortcuts and Kaiming-normal convolutions, as the long-tailed CIFAR baselines since
    LDAM (Cao et al. 2019) have them; so has their linear classifier.
    """

    def __init__(self, channels: int, depth: int, width: int = 1) -> None:
        super().__init__()
        blocks, narrow, middle, wide = (depth - 2) // 6, 16 * width, 32 * width, 64 * width
        stem = nn.Conv2d(channels, narrow, 3, padding=1, bias=False)
        self.stem = nn.Sequential(stem, nn.BatchNorm2d(narrow), nn.ReLU())
        self.stages = nn.Sequential(
            *(
                _Block(inputs if first else outputs, outputs, stride if first else 1)
                for inputs, outputs, stride in ((narrow, narrow, 1), (narrow, middle, 2), (middle, wide, 2))
                for first in (True, *[False] * (blocks - 1))
            )
        )
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight)

    def forward(self, x: Tensor) -> Tensor:
        return self.stages(self.stem(x)).mean(dim=(2, 3))


class _Block(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.stride, self.padding = stride, (outputs - inputs) // 2
        self.body = nn.Sequential(
            nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
            nn.ReLU(),
            nn.Conv2d(outputs, outputs, 3, padding=1, bias=False),
            nn.BatchNorm2d(outputs),
        )

    def forward(self, x: Tensor) -> Tensor:
        shortcut = F.pad(x[:, :, :: self.stride, :: self.stride], (0, 0, 0, 0, self.padding, self.padding))
        return F.relu(self.body(x) + shortcut)


_LOCAL = {"convnet": convnet} | {
    f"cifar_resnet{depth}" + (f"x{width}" if width > 1 else ""): partial(CIFARResNet, depth=depth, width=width)
    for depth in (8, 20, 32, 44, 56)
    for width in (1, 2, 4)
}


def _timm_model(name: str, image_size: int, channels: int, patch_size: int | None, pretrained: bool) -> nn.Module:
    with torch.device("meta"):  # only to see what kind of model it is
        outline = timm.create_model(name)
    published = outline.pretrained_cfg
    options = {"img_size": image_size} if published["fixed_input_size"] else {}
    embeddings = (module for module in outline.modules() if hasattr(module, "patch_size") and hasattr(module, "proj"))
    embedding = next(embeddings, None)
    if embedding is None and patch_size:
        raise InputError(f"--patch-size {patch_size} means nothing to {name}, which has no patches; leave it out.")
    if embedding is not None:
        native = embedding.patch_size[0]
        at_home = image_size == published["input_size"][-1]
        patch = patch_size or (native if at_home else _patch_size(native, image_size))
        if image_size % patch:
            raise InputError(
                f"--img-size {image_size} is not a multiple of the {patch}-pixel patch of {name}; "
                "change it, or give a --patch-size that divides it."
            )
        options |= {"patch_size": patch} if patch != native else {}
    try:
        model = timm.create_model(name, pretrained, num_classes=0, in_chans=channels, **options)
    except Exception as error:  # timm, its hub and its models each raise whatever they like
        reason = " ".join(str(error).split())
        if pretrained:
            fix = "check the network and the name's tag, or leave --pretrained out"
            raise InputError(f"{name} with --pretrained cannot be had ({reason}); {fix}.") from error
        raise InputError(f"{name} cannot be built for {image_size} pixels ({reason}); try another.") from error
    if embedding is None and image_size <= SMALL_IMAGE:
        _widen_stem(model)
    return model


def _patch_size(native: int, image_size: int) -> int:
    """The model's own patch if that leaves enough tokens, else the largest of 8 and 4 (and 16) that does."""
    sizes = [native, *(size for size in (16, 8, 4) if size < native and image_size % size == 0)]
    return next((size for size in sizes if (image_size // size) ** 2 >= FEWEST_TOKENS), sizes[-1])


def _widen_stem(model: nn.Module) -> None:
    """Let the first convolution see every pixel (3x3, stride 1) and drop the max-pool that follows it."""
    first = model.pretrained_cfg["first_conv"]
    path = first if isinstance(first, str) else first[0]
    conv = model.get_submodule(path)
    if not isinstance(conv, nn.Conv2d) or conv.stride == (1, 1):
        return
    bias = conv.bias is not None
    new = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, groups=conv.groups, bias=bias)
    # The middle of the (maybe pretrained) kernel: the normalisation that follows takes care of its scale.
    edge = (conv.kernel_size[0] - 3) // 2
    new.weight.data.copy_(conv.weight.data[..., edge : edge + 3, edge : edge + 3])
    if bias:
        new.bias.data.copy_(conv.bias.data)
    model.set_submodule(path, new)
    for name, module in model.named_modules():
        beside_stem = path.startswith(name.rpartition(".")[0])
        if isinstance(module, nn.MaxPool2d) and beside_stem:
            model.set_submodule(name, nn.Identity())
            break


def _fit_channels(statistics: Sequence[float], channels: int) -> list[float]:
    """RGB statistics for that many channels, as timm folds RGB weights."""
    return list(statistics) if channels == len(statistics) else [sum(statistics) / len(statistics)] * channels


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
