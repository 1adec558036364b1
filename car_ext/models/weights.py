"""Pretrained weights from a file, fitted to a network by their names."""

import argparse
import sys
from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from timm.models import adapt_input_conv
from torch import Tensor, nn

from car_ext.datasets.notes import tell
from car_ext.errors import InputError, first_line
from car_ext.text import listed

WRAPPERS = ("state_dict_ema", "model_ema", "ema", "state_dict", "model")  # averaged weights before others
ENDINGS = (".safetensors", ".pth", ".pt", ".bin")
LEAST_SHARE = 0.5  # of the network's numbers; a file that has fewer is one of another network


def load_weights(backbone: Any, path: str | Path, name: str) -> None:
    """Put the weights of a file into a network of timm without its classifier, and tell what did not fit.

    Names may stand under a prefix, such as `module.` or `backbone.`, and weights within a checkpoint. timm's own
    filter of the network renames, and resizes position embeddings; a first convolution of colours is summed for grey
    images. The file's classifier is left out.

    Args:
        backbone: as `timm.create_model` builds it; `name` is what it is called.
        path: a .safetensors file, or a .pth, .pt or .bin file of tensors alone: nothing else in it is read.

    Raises:
        InputError: no such file, one that holds more than tensors, or one of another network.
    """
    own = backbone.state_dict()
    found = _fitted(backbone, _below_prefix(_read(Path(path)), own.keys()), path)
    taken = {key: weight for key, weight in found.items() if key in own and weight.shape == own[key].shape}
    missing = [key for key in own if key not in taken and not key.endswith("num_batches_tracked")]
    extra = [key for key in found if key not in taken and not _is_classifier(key, backbone)]
    here, there = listed(missing) or "none", listed(extra) or "none"
    have, need = (sum(own[key].numel() for key in keys) for keys in (taken, own))
    if have < LEAST_SHARE * need:
        raise InputError(
            f"--pretrained {path} is not of {name}: it has {len(taken)} of its {len(own)} tensors. Without weights: "
            f"{here}; in the file alone, or of another shape: {there}. Give the --model they are of."
        )
    backbone.load_state_dict(taken, strict=False)
    differences = f"; {len(missing)} begin untrained: {here}" if missing else ""
    differences += f"; {len(extra)} of the file are not taken: {there}" if extra else ""
    tell(f"{len(taken)} of {len(own)} tensors of {name} are from {path}{differences}")


def _read(path: Path) -> dict[str, Tensor]:
    if path.suffix not in ENDINGS:
        raise InputError(f"--pretrained {path} is no file of weights; give one that ends in {', '.join(ENDINGS)}.")
    if not path.is_file():
        raise InputError(f"--pretrained {path} is not there; check the path.")
    try:
        content: Any = load_file(path) if path.suffix == ".safetensors" else _unpickled(path)
    except Exception as error:  # each format raises whatever it likes
        raise InputError(
            f"--pretrained {path} cannot be read ({first_line(error)}); give a file that holds tensors alone, such as "
            "one that safetensors.torch.save_file(model.state_dict(), ...) writes."
        ) from error
    while isinstance(content, Mapping) and (key := next((key for key in WRAPPERS if _holds(content, key)), None)):
        content = content[key]
    tensors = content if isinstance(content, Mapping) else {}
    return {str(key): value for key, value in tensors.items() if isinstance(value, Tensor)}


def _unpickled(path: Path) -> Any:
    # Checkpoints of timm's training carry their options, which are harmless.
    with torch.serialization.safe_globals([argparse.Namespace]):
        return torch.load(path, map_location="cpu", weights_only=True)


def _holds(content: Mapping, key: str) -> bool:
    return isinstance(content.get(key), Mapping)


def _below_prefix(weights: Mapping[str, Tensor], own: Collection[str]) -> dict[str, Tensor]:
    """The weights under the prefix below which most of the network's `own` names stand, without it."""
    prefixes: Counter[str] = Counter()
    for key in weights:
        starts = [0, *(place + 1 for place, letter in enumerate(key) if letter == ".")]
        prefixes.update(key[:start] for start in starts if key[start:] in own)
    prefix = prefixes.most_common(1)[0][0] if prefixes else ""
    return {key.removeprefix(prefix): weight for key, weight in weights.items() if key.startswith(prefix)}


def _fitted(backbone: Any, weights: dict[str, Tensor], path: str | Path) -> dict[str, Tensor]:
    """The weights as timm would rename and resize them for the network."""
    adapt = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    try:
        weights = adapt(weights, backbone) if adapt else weights
    except Exception as error:  # a filter stumbles over what is not of its network
        raise InputError(
            f"--pretrained {path} is not of this --model ({first_line(error)}); give the one it is of."
        ) from error
    for place in _names(backbone.pretrained_cfg["first_conv"]):
        key, layer = f"{place}.weight", backbone.get_submodule(place)
        if key in weights and isinstance(layer, nn.Conv2d) and weights[key].shape[1] == 3:
            weights[key] = adapt_input_conv(layer.in_channels, weights[key])
    return weights


def _is_classifier(key: str, backbone: Any) -> bool:
    return key.startswith(tuple(f"{place}." for place in _names(backbone.pretrained_cfg["classifier"])))


def _names(places: str | tuple[str, ...] | None) -> tuple[str, ...]:
    return (places,) if isinstance(places, str) else tuple(places or ())
