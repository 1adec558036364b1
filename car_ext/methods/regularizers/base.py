"""What every regularizer of the classifier's weight is."""

from torch import Tensor, nn


class WeightRegularizer(nn.Module):
    """Acts on the classifier's weight (K, D), a row a class; its state is buffers and is saved with it.

    loss = ce + regularizer.penalty(head.weight)  # every step
    regularizer.after_epoch(head.weight)  # every epoch, after its last step
    """

    def penalty(self, weight: Tensor) -> Tensor:
        """What to add to the loss: weight (K, D) to a 0-dim tensor, 0 unless a subclass says otherwise."""
        return weight.new_zeros(())

    def after_epoch(self, weight: Tensor) -> None:
        """Change `weight` in place, outside autograd; nothing unless a subclass says otherwise."""

    def set_epoch(self, epoch: int, epochs: int) -> None:
        """Told before each epoch, from 1 to `epochs`; a regularizer with a schedule acts on it."""
