"""What of a backbone is trained: all of it, nothing, its normalisations, or few new weights inside a transformer."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from car_ext.errors import InputError

ADAPTERS = ("lora", "adaptformer")
NORMALISATIONS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm, nn.RMSNorm)
RANK = 8  # of LoRA's updates
BOTTLENECK, SCALE = 64, 0.1  # AdaptFormer's, as published
ATTENTION = ("qkv", "q_proj", "v_proj", "q", "v", "kv")  # what networks call the layers that LoRA updates


class LoRA(nn.Module):
    """A linear layer `W x + b` that becomes `(W + B A) x + b`; only A (r, in) and B (out, r) are trained, B from 0.

    Hu et al., LoRA, ICLR 2022, with the scale alpha / r = 1. Where queries, keys and values are one layer, all three
    are updated; the paper updates queries and values.
    """

    def __init__(self, linear: nn.Linear, rank: int = RANK) -> None:
        super().__init__()
        self.linear = linear
        self.a = nn.Parameter(torch.empty(rank, linear.in_features))
        self.b = nn.Parameter(torch.zeros(linear.out_features, rank))
        nn.init.kaiming_uniform_(self.a, a=5**0.5)

    @property
    def weight(self) -> Tensor:
        """The updated weight."""
        return self.linear.weight + self.b @ self.a

    @property
    def bias(self) -> Tensor | None:
        return self.linear.bias

    def forward(self, x: Tensor) -> Tensor:
        return self.linear(x) + F.linear(F.linear(x, self.a), self.b)

    @torch.no_grad()
    def merged(self) -> nn.Linear:
        """The layer with the update in its weight."""
        self.linear.weight.copy_(self.weight)
        return self.linear


class AdaptFormer(nn.Module):
    """An MLP with a bottleneck beside it, `mlp(x) + 0.1 up(relu(down(x)))`, of which only the latter is trained.

    Chen et al., AdaptFormer, NeurIPS 2022: x is the normalised input of the MLP, the bottleneck has 64 numbers, and
    `up` begins at 0.
    """

    def __init__(self, mlp: nn.Module, width: int, bottleneck: int = BOTTLENECK) -> None:
        super().__init__()
        self.mlp = mlp
        self.down, self.up = nn.Linear(width, bottleneck), nn.Linear(bottleneck, width)
        nn.init.kaiming_uniform_(self.down.weight, a=5**0.5)
        for zero in (self.down.bias, self.up.weight, self.up.bias):
            nn.init.zeros_(zero)

    def forward(self, x: Tensor, *rest: Any) -> Tensor:
        return self.mlp(x, *rest) + SCALE * self.up(torch.relu(self.down(x)))


def tune(backbone: nn.Module, how: str) -> None:
    """Freeze a backbone but for what `how` names: "full", "head" (nothing of it), "norm", "lora" or "adaptformer".

    The latter two put new layers into each block of a transformer of timm.

    Raises:
        InputError: it has no blocks of attention and MLP for them.
    """
    if how == "full":
        return
    backbone.requires_grad_(False)
    if how == "norm":
        for module in backbone.modules():
            if isinstance(module, NORMALISATIONS):
                module.requires_grad_(True)
    if how in ADAPTERS and not _add(backbone, how):
        raise InputError(
            f"--tune {how} is for transformers of timm, which this --model is not; use --tune full or norm."
        )


def _add(backbone: nn.Module, kind: str) -> int:
    """Put adapters into every block; how many."""
    blocks: list[Any] = [module for module in backbone.modules() if _has(module, "attn") and _has(module, "mlp")]
    if kind == "adaptformer":
        widths = [next((m.in_features for m in block.mlp.modules() if isinstance(m, nn.Linear)), 0) for block in blocks]
        for block, width in zip(blocks, widths, strict=True):
            if width:
                block.mlp = AdaptFormer(block.mlp, width)
        return sum(map(bool, widths))
    layers = [(block.attn, name) for block in blocks for name in ATTENTION if _has(block.attn, name, nn.Linear)]
    for attention, name in layers:
        setattr(attention, name, LoRA(getattr(attention, name)))
    return len(layers)


def merge(backbone: nn.Module) -> None:
    """Put what LoRA has learnt into the weights, as if all had been trained."""
    for name, module in list(backbone.named_modules()):
        if isinstance(module, LoRA):
            backbone.set_submodule(name, module.merged())


def _has(module: nn.Module, name: str, kind: type = nn.Module) -> bool:
    return isinstance(getattr(module, name, None), kind)
