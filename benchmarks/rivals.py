"""CAR the way one writes it in plain PyTorch: what the kernels are measured against."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class EagerCAR(nn.Module):
    """Surrogate, moving average and spectral norm from PyTorch operators, gradients by autograd.

    With `power_iterations = 0` a full SVD a step and the formula of the authors' published code; otherwise the
    paper's formula and that many warm-started power iterations.
    """

    def __init__(self, class_counts: Tensor, power_iterations: int, alpha: float = 0.5, beta: float = 0.5):
        super().__init__()
        classes = len(class_counts)
        weights = (class_counts / class_counts.sum() + 0.2).rsqrt()
        self.power_iterations, self.alpha, self.beta = power_iterations, alpha, beta
        self.register_buffer("weights", weights)
        self.register_buffer("confusion", torch.zeros(classes, classes))
        self.register_buffer("right", torch.full((classes,), classes**-0.5))

    def forward(self, logits: Tensor, targets: Tensor) -> Tensor:
        classes = logits.shape[1]
        true = F.one_hot(targets, classes)
        margins = logits - logits.gather(1, targets[:, None])
        if self.power_iterations:
            soft = torch.softmax(logits.masked_fill(true.bool(), -torch.inf), dim=1) * torch.sigmoid(0.1 + margins)
        else:
            soft = torch.softmax(logits, dim=1) * torch.sigmoid(margins.detach()) * (1 - true)
        counts = true.sum(0).clamp_min(1)
        batch = torch.zeros_like(self.confusion).index_add(0, targets, soft).t() / counts
        mixed = self.beta * self.confusion + (1 - self.beta) * batch
        self.confusion.copy_(mixed.detach())
        weighted = mixed * self.weights
        if not self.power_iterations:
            return self.alpha * torch.linalg.svd(weighted)[1][0]
        right = self.right
        with torch.no_grad():
            for _ in range(self.power_iterations):
                left = F.normalize(weighted @ right, dim=0)
                right = F.normalize(weighted.t() @ left, dim=0)
            self.right.copy_(right)
        return self.alpha * (left @ weighted @ right)
