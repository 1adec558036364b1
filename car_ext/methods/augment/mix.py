"""Mixing a batch of images, and its labels, with another or with itself in another order."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from car_ext.methods.augment.boxes import clipped_box
from car_ext.methods.registry import build, register
from car_ext.priors import PerClass, check_class_counts
from car_ext.values import check


class Mixed(NamedTuple):
    """A mixed batch: image i counts as class `targets[i]` with weight `lam[i]`, as its partner's with the rest.

    Its loss is `lam * L(logits, targets) + (1 - lam) * L(logits, partner_targets)` sample by sample: lam differs
    between samples, so a batch mean must not be taken before.
    """

    images: Tensor  # (N, H, W, C)
    targets: Tensor  # (N,) int64
    partner_targets: Tensor  # (N,) int64
    lam: Tensor  # (N,) float32 in [0, 1]; all 1 where the batch was not mixed

    def soft_targets(self, num_classes: int) -> Tensor:
        """The same labels as float32 (N, K), each row of sum 1."""
        own, partner = (F.one_hot(labels, num_classes) for labels in (self.targets, self.partner_targets))
        return self.lam[:, None] * own + (1 - self.lam[:, None]) * partner


def build_mix(spec: str, class_counts: PerClass) -> "Mix":
    """A mix by name, such as `mixup:alpha=0.2` or `cmo`.

    Args:
        spec: `NAME[:option=value,...]`.
        class_counts: (K,) training images of each class.

    Raises:
        InputError: an unknown name or option, or an option out of range.
    """
    return build("mix", spec, class_counts)


class Mix:
    """Base of all mixes: a batch is mixed with probability `prob`, at one ratio l ~ Beta(alpha, alpha).

    `partner_sampler` is the sampler (see `car_ext.methods.samplers`) that the partner batch comes from; where it is
    None, the partner is the batch itself in another order.
    """

    partner_sampler: str | None = None

    def __init__(self, class_counts: PerClass, *, alpha: float = 1.0, prob: float = 1.0) -> None:
        self.class_counts = torch.from_numpy(check_class_counts(class_counts))
        check("alpha", alpha, 0 < alpha < float("inf"), "a positive number")
        check("prob", prob, 0 <= prob <= 1, "a probability, from 0 to 1")
        self.alpha, self.prob = alpha, prob

    def active(self, epoch: int, epochs: int) -> bool:
        """Whether `epoch`, from 1 to `epochs`, is mixed at all; a partner batch is needed only then."""
        return True

    def __call__(
        self,
        images: Tensor,
        targets: Tensor,
        generator: torch.Generator,
        partner: tuple[Tensor, Tensor] | None = None,
        epoch: int = 1,
        epochs: int = 1,
        rows: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Mixed:
        """Mix a batch; what is given stays as it is.

        Args:
            images: (N, H, W, C), uint8 or float of the same range, 0 to 255.
            targets: (N,) int64.
            generator: of the CPU wherever the images are; everything random is drawn from it.
            partner: images and targets of as many samples, from `partner_sampler`.
            epoch, epochs: from 1.
            rows: where `images` are a process's part of the batch, and `targets` those of all of it: gives that part of
                images in another order, as `Processes.rows`.

        Raises:
            ValueError: a partner batch that is missing or of other shape.
        """
        mixed = self.active(epoch, epochs) and float(torch.rand((), generator=generator)) < self.prob
        if not mixed:
            return Mixed(self._unmixed(images), targets, targets, torch.ones(len(targets), device=images.device))
        if partner is None:
            if self.partner_sampler:
                raise ValueError(f"{type(self).__name__} mixes with a batch from a {self.partner_sampler} sampler")
            order = torch.randperm(len(targets), generator=generator).to(images.device)
            partner = images[order] if rows is None else rows(images, order), targets[order]
        if partner[0].shape != images.shape:
            raise ValueError(f"the partner batch has shape {tuple(partner[0].shape)}, not {tuple(images.shape)}")
        ratio = _beta(self.alpha, generator)
        images, ratio = self._combine(images, partner[0], ratio, generator)
        return Mixed(images, targets, partner[1], self._label_weights(targets, partner[1], ratio))

    def _unmixed(self, images: Tensor) -> Tensor:
        return images

    def _combine(
        self, images: Tensor, partners: Tensor, ratio: float, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        """The mixed images, and the part of them that is `images`."""
        raise NotImplementedError

    def _label_weights(self, targets: Tensor, partner_targets: Tensor, ratio: float) -> Tensor:
        """lam (N,) float32."""
        return torch.full(targets.shape, ratio, device=targets.device)


@register(
    "mix",
    "mixup",
    title="Mixup",
    source="Zhang et al., ICLR 2018",
    formula="x = l x_a + (1 - l) x_b, labels alike",
    published="ResNet-32, 400 epochs (imbalance ratio 100): CIFAR10-LT 74.06, CIFAR100-LT 40.82",
)
class Mixup(Mix):
    """The weighted mean of two images, float32."""

    def _unmixed(self, images: Tensor) -> Tensor:
        return images.float()

    def _combine(
        self, images: Tensor, partners: Tensor, ratio: float, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        return ratio * images.float() + (1 - ratio) * partners.float(), ratio


@register(
    "mix",
    "remix",
    title="ReMix",
    source="Chou et al., ECCV 2020 Workshops",
    formula="x as mixup; lam = 0 if n_a/n_b >= kappa and l < tau; 1 if n_a/n_b <= 1/kappa and 1 - l < tau; else l",
    published="ResNet-32, 400 epochs (imbalance ratio 100): CIFAR10-LT 73.43, CIFAR100-LT 41.39",
    notes="lam is kept for each sample; a published implementation averages it over the batch",
)
class Remix(Mixup):
    """Mixup that gives the whole label to the much rarer of two classes, where it makes up enough of the image."""

    def __init__(
        self,
        class_counts: PerClass,
        *,
        alpha: float = 1.0,
        prob: float = 1.0,
        kappa: float = 3.0,
        tau: float = 0.5,
    ) -> None:
        super().__init__(class_counts, alpha=alpha, prob=prob)
        check("kappa", kappa, 1 <= kappa < float("inf"), "a number of at least 1")
        check("tau", tau, 0 <= tau <= 1, "a number from 0 to 1")
        self.kappa, self.tau = kappa, tau

    def _label_weights(self, targets: Tensor, partner_targets: Tensor, ratio: float) -> Tensor:
        counts = self.class_counts.to(targets.device, torch.float64)  # exact, however close a ratio comes to kappa
        own, partner = counts[targets], counts[partner_targets]
        lam = super()._label_weights(targets, partner_targets, ratio)
        if 1 - ratio < self.tau:
            lam[partner >= self.kappa * own] = 1
        if ratio < self.tau:
            lam[own >= self.kappa * partner] = 0
        return lam


@register(
    "mix",
    "cutmix",
    title="CutMix",
    source="Yun et al., ICCV 2019",
    formula="a box of x_b with sides sqrt(1 - l) of the image's pasted into x_a; lam = 1 - its area",
)
class CutMix(Mix):
    """A box of the partner pasted into the image, about a uniform centre and cut off at the border; dtype kept."""

    def __init__(self, class_counts: PerClass, *, alpha: float = 1.0, prob: float = 0.5) -> None:
        super().__init__(class_counts, alpha=alpha, prob=prob)

    def _combine(
        self, images: Tensor, partners: Tensor, ratio: float, generator: torch.Generator
    ) -> tuple[Tensor, float]:
        height, width = images.shape[1:3]
        side = (1 - ratio) ** 0.5
        rows, columns = clipped_box(height, width, int(height * side), int(width * side), generator)
        images = images.clone()
        images[:, rows, columns] = partners[:, rows, columns]
        area = (rows.stop - rows.start) * (columns.stop - columns.start)
        return images, 1 - area / (height * width)


@register(
    "mix",
    "concutmix",
    title="ConCutMix, its images and labels",
    source="Pan et al., IEEE TIP 2024",
    formula="cutmix whose pasted box comes from a class-balanced batch",
    published="ResNet-32 (imbalance ratio 100): CIFAR10-LT 86.07, CIFAR100-LT 53.16",
    notes="the numbers are those of the whole method, with --contrast concutmix",
)
class ConCutMix(CutMix):
    """CutMix with a partner batch in which every class is as likely."""

    partner_sampler = "class_balanced"


@register(
    "mix",
    "cmo",
    title="Context-rich minority oversampling (CMO)",
    source="Park et al., CVPR 2022",
    formula="cutmix of an instance-balanced background and a class-balanced foreground; 3 < epoch < T - 3 from 0",
    published="ImageNet-LT, ResNet-50, with balanced softmax: 52.3",
)
class CMO(ConCutMix):
    """Rare foregrounds on rich backgrounds: the box comes from a class-balanced batch.

    The first four and the last three epochs are not mixed.
    """

    def active(self, epoch: int, epochs: int) -> bool:
        return 3 < epoch - 1 < epochs - 3


def _beta(alpha: float, generator: torch.Generator) -> float:
    # torch's Beta distribution takes no generator.
    seed = int(torch.randint(2**63 - 1, (), generator=generator))
    return float(np.random.default_rng(seed).beta(alpha, alpha))
