"""timm's networks, fitted to the size and channels of the data."""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

import timm
import torch
from timm.models import load_model_config_from_hf
from timm.models._hub import load_model_config_from_path
from torch import nn

from car_ext.errors import InputError, first_line
from car_ext.models.small import NETWORKS
from car_ext.models.weights import load_weights

PUBLISHED = "timm"  # weights by the name of the network
SOURCES: dict[str, Callable] = {"hf-hub": load_model_config_from_hf, "local-dir": load_model_config_from_path}
SMALL_IMAGE = 64  # up to this side a stem made for 224 pixels throws most of the image away
FEWEST_TOKENS = 64


def timm_model(
    name: str,
    image_size: int,
    channels: int,
    patch_size: int | None,
    pretrained: str | None,
    stem: str = "auto",
    options: Mapping[str, Any] | None = None,
) -> tuple[nn.Module, dict[str, Any]]:
    """The network called `name` without its classifier, and with which of these arguments to build it anew.

    A transformer for small images gets a patch that leaves enough tokens.

    Args:
        name: of timm's registry, or `hf-hub:OWNER/NAME` or `local-dir:FOLDER`, as timm reads them.
        image_size: pixels of the side.
        channels: 1 or 3.
        patch_size: of a transformer, in pixels.
        pretrained: "timm" for the published weights, or a file; None for none.
        stem: "keep", or "wide" to let the first convolution see every pixel, at stride 1; "auto" is wide for new
            weights and images of up to 64 pixels.
        options: further ones of the network, as `_architecture` finds them.

    Raises:
        InputError: an unknown name, a size, patch or stem that the network cannot have, or weights that cannot be had.
    """
    known_as, own_options = _architecture(name)
    own_options |= options or {}
    built = {"name": known_as, "patch_size": patch_size, "options": own_options}
    outline = _outline(name)
    published = outline.pretrained_cfg
    options = own_options | ({"img_size": image_size} if published["fixed_input_size"] else {})
    embeddings = (module for module in outline.modules() if hasattr(module, "patch_size") and hasattr(module, "proj"))
    embedding: Any = next(embeddings, None)
    if embedding is None and patch_size:
        raise InputError(f"--patch-size {patch_size} means nothing to {name}, which has no patches; leave it out.")
    if embedding is not None:
        at_home = image_size == published["input_size"][-1]
        options |= _patch_options(name, embedding.patch_size[0], image_size, at_home, patch_size)
    if embedding is not None and stem == "wide":
        raise InputError(f"--stem wide means nothing to {name}, which has patches; give --patch-size in its place.")
    try:
        model = timm.create_model(name, pretrained == PUBLISHED, num_classes=0, in_chans=channels, **options)
    except Exception as error:  # timm, its hub and its models each raise whatever they like
        reason = " ".join(str(error).split())
        if pretrained == PUBLISHED:
            fix = "check the network and the name's tag, or leave --pretrained out"
            raise InputError(f"{name} with --pretrained cannot be had ({reason}); {fix}.") from error
        raise InputError(f"{name} cannot be built for {image_size} pixels ({reason}); try another.") from error
    if pretrained and pretrained != PUBLISHED:
        load_weights(model, pretrained, name)
    asked = stem == "wide"
    small = stem == "auto" and not pretrained and embedding is None and image_size <= SMALL_IMAGE
    wide = (asked or small) and _widen_stem(model)
    if asked and not wide:
        raise InputError(f"--stem wide means nothing to {name}, whose first layer is as wide already; leave it out.")
    return model, built | {"stem": "wide" if wide else "keep"}


def _architecture(name: str) -> tuple[str, dict[str, Any]]:
    """The name in timm's registry and the options of what `hf-hub:` or `local-dir:` names; any other name as it is.

    Raises:
        InputError: there is none.
    """
    source, _, place = name.partition(":")
    if source not in SOURCES:
        return name, {}
    try:
        _, known_as, options = SOURCES[source](place)
    except Exception as error:  # a network, a folder or a file that is not there, each with its own
        raise InputError(
            f"--model {name} cannot be had ({first_line(error)}); check the network or the path."
        ) from error
    return known_as, options


def native_size(name: str) -> int:
    """Side of the images that the weights were trained on, in pixels.

    Raises:
        InputError: an unknown name.
    """
    return _outline(name).pretrained_cfg["input_size"][-1]


def _outline(name: str) -> Any:
    """The network without memory: enough to see what kind it is."""
    _check_known(_architecture(name)[0])
    with torch.device("meta"):
        return timm.create_model(name)


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


def _widen_stem(model: Any) -> bool:
    """Let the first convolution see every pixel (3x3, stride 1) and drop the max-pool that follows it, if it can be."""
    first = model.pretrained_cfg["first_conv"]
    path: str = first if isinstance(first, str) else first[0]
    conv: nn.Module = model.get_submodule(path)
    if not isinstance(conv, nn.Conv2d) or conv.stride == (1, 1):
        return False
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
    return True


def published_statistics(model: Any, channels: int) -> tuple[list[float], list[float]]:
    """Mean and standard deviation that the published weights expect, as timm folds RGB weights to other channels."""

    def fitted(colours: tuple[float, ...]) -> list[float]:
        return list(colours) if channels == len(colours) else [sum(colours) / len(colours)] * channels

    return fitted(model.pretrained_cfg["mean"]), fitted(model.pretrained_cfg["std"])
