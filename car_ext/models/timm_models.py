"""timm's networks, fitted to the size and channels of the data."""

from collections.abc import Sequence

import timm
import torch
from torch import nn

from car_ext.errors import InputError

SMALL_IMAGE = 64  # up to this side a stem made for 224 pixels throws most of the image away
FEWEST_TOKENS = 64


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
