"""What heads share: a weight, and the finished head that some of them stand on."""

import copy
from typing import Any

from torch import Tensor, nn

from car_ext.errors import InputError


def weight_of(head: nn.Module) -> Tensor:
    """The weight (K, D) of a head, a row a class."""
    weight: Any = head.weight  # to a type checker it could be a module
    return weight


class OnFinished(nn.Module):
    """A head on top of a finished one, of which it keeps a frozen copy."""

    def __init__(self, init: nn.Module | None, name: str) -> None:
        super().__init__()
        self.head = copy.deepcopy(finished_head(init, name))
        # As buffers, out of reach of optimizers and of requires_grad_ on the whole head.
        for module in self.head.modules():
            for key, parameter in list(module.named_parameters(recurse=False)):
                delattr(module, key)
                module.register_buffer(key, parameter.detach())

    @property
    def weight(self) -> Tensor:
        return weight_of(self.head)


def finished_head(init: nn.Module | None, name: str) -> nn.Module:
    """`init`, which the head `name` cannot do without.

    Raises:
        InputError: it is None.
    """
    if init is None:
        raise InputError(f"head {name!r} starts from a finished head: give it one, of a model trained before")
    return init
