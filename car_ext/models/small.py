"""The small networks: a convnet for digits and the ResNets of the CIFAR benchmarks."""

from collections.abc import Callable
from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn


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
    """ResNet with 6n + 2 layers for 32x32 images (He et al. 2016, section 4.2), `width` times 16, 32 and 64 channels.

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


# By name; each takes the channels of the images.
NETWORKS: dict[str, Callable[[int], nn.Module]] = {"convnet": convnet} | {
    f"cifar_resnet{depth}" + (f"x{width}" if width > 1 else ""): partial(CIFARResNet, depth=depth, width=width)
    for depth in (8, 20, 32, 44, 56)
    for width in (1, 2, 4)
}
