"""A head whose logits are divided by a temperature."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Tempered(nn.Module):
    """`head(features) / T`, in float32: T of all images, or of the class that is predicted, which stays the same.

    Args:
        head: features to logits (N, K).
        temperatures: one, or K of them.
    """

    by_class: Tensor

    def __init__(self, head: nn.Module, temperatures: Sequence[float]) -> None:
        super().__init__()
        self.head = head
        self.all = temperatures[0] if len(temperatures) == 1 else None
        self.register_buffer("by_class", torch.tensor(temperatures, dtype=torch.float32))

    def forward(self, features: Tensor) -> Tensor:
        logits = self.head(features).float()
        if self.all is not None:
            return logits / self.all
        # Half precision, where the module was told to, holds a temperature to 3 digits.
        return logits / self.by_class.float()[logits.argmax(dim=1)].unsqueeze(1)
