"""timm's networks, fitted to the size and channels of the data."""

import difflib
from typing import Any

import timm
import torch
from torch import nn

from car_ext.errors import InputError
from car_ext.models.small import NETWORKS

SMALL_IMAGE = 64  # up to this side a stem made for 224 pixels throws most of the image away
FEWEST_TOKENS = 64


def timm_model(name: str, image_size: int, channels: int, patch_size: int | None, pretrained: bool) -> nn.Module:
    """The network called `name` without its classifier.

    A convolutional network for images of up to 64 pixels gets a stem that keeps their resolution, a transformer a patch
    that leaves enough tokens.

    Raises:
        InputError: an unknown name, a size or patch that the network cannot take, or weights that cannot be had.
    """
    _check_known(name)
    with torch.device("meta"):  # only to see what kind of model it is
        outline: Any = timm.create_model(name)
    published = outline.pretrained_cfg
    options: dict[str, Any] = {"img_size": image_size} if published["fixed_input_size"] else {}
    embeddings = (module for module in outline.modules() if hasattr(module, "patch_size") and hasattr(module, "proj"))
    embedding: Any = next(embeddings, None)
    if embedding is None and patch_size:
        raise InputError(f"--patch-size {patch_size} means nothing to {name}, which has no patches; leave it out.")
    if embedding is not None:
        at_home = image_size == published["input_size"][-1]
        options |= _patch_options(name, embedding.patch_size[0], image_size, at_home, patch_size)
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


def _check_known(name: str) -> None:
    if not timm.is_model(name):
        close = difflib.get_close_matches(name, [*NETWORKS, *timm.list_models()], n=1)
        hint = f"did you mean {close[0]}?" if close else "see timm.list_models() for what there is."
        raise InputError(f"--model {name} is not known; {hint}")


def _patch_options(name: str, native: int, image_size: int, at_home: bool, asked: int | None) -> dict[str, int]:
    patch = asked or (native if at_home else _patch_size(native, image_size))
    if image_size % patch:
        raise InputError(
            f"--img-size {image_size} is not a multiple of the {patch}-pixel patch of {name}; "
            "change it, or give a --patch-size that divides it."
        )
    return {"patch_size": patch} if patch != native else {}


def _patch_size(native: int, image_size: int) -> int:
    """The model's own patch if that leaves enough tokens, else the largest of 8 and 4 (and 16) that does."""
    sizes = [native, *(size for size in (16, 8, 4) if size < native and image_size % size == 0)]
    return next((size for size in sizes if (image_size // size) ** 2 >= FEWEST_TOKENS), sizes[-1])


def _widen_stem(model: Any) -> None:
    """Let the first convolution see every pixel (3x3, stride 1) and drop the max-pool that follows it."""
    first = model.pretrained_cfg["first_conv"]
    path: str = first if isinstance(first, str) else first[0]
    conv: nn.Module = model.get_submodule(path)
    if not isinstance(conv, nn.Conv2d) or conv.stride == (1, 1):
        return
    bias = conv.bias
    new = nn.Conv2d(conv.in_channels, conv.out_channels, 3, padding=1, groups=conv.groups, bias=bias is not None)
    # The middle of the (maybe pretrained) kernel: the normalisation that follows takes care of its scale.
    edge = (conv.kernel_size[0] - 3) // 2
    new.weight.data.copy_(conv.weight.data[..., edge : edge + 3, edge : edge + 3])
    if bias is not None and new.bias is not None:
        new.bias.data.copy_(bias.data)
    model.set_submodule(path, new)
    for name, module in model.named_modules():
        beside_stem = path.startswith(name.rpartition(".")[0])
        if isinstance(module, nn.MaxPool2d) and beside_stem:
            model.set_submodule(name, nn.Identity())
            break


def published_statistics(model: Any, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that the published weights expect, as timm folds RGB weights to other channels."""

    def fitted(colours: tuple[float, ...]) -> list[float]:
        return list(colours) if channels == len(colours) else [sum(colours) / len(colours)] * channels

    return fitted(model.pretrained_cfg["mean"]), fitted(model.pretrained_cfg["std"])
