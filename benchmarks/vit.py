"""A training step of ViT-S/16 with and without CAR."""

import functools

import torch
import torch.nn.functional as F
import workload
from clock import Work, in_turns
from torch import nn

from car_ext import CAR

SAMPLES, PIXELS, CLASSES = 128, 224, 1000
TINY = (2, 32, 10)


def measure(device: str, tiny: bool, budget: float) -> dict:
    """Seconds a step, in turns, bfloat16 autocast, AdamW, random images."""
    samples, pixels, classes = TINY if tiny else (SAMPLES, PIXELS, CLASSES)
    name, model = vision_transformer(pixels, classes, depth=1 if tiny else 12)
    model.to(device)
    car = CAR(workload.class_counts(classes)).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-4, fused=True)
    images = torch.randn(samples, 3, pixels, pixels, device=device)
    targets = workload.batches(samples, classes, how_many=1)[0][1].to(device)

    def step(regularized: bool) -> None:
        with torch.autocast(device, dtype=torch.bfloat16):
            logits = model(images)
            loss = F.cross_entropy(logits, targets)
            if regularized:
                loss = loss + car(logits, targets)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    both = {"cross-entropy": Work(functools.partial(step, False)), "with CAR": Work(functools.partial(step, True))}
    for _ in range(1 if tiny else 5):
        for work in both.values():
            work.call()
    took = in_turns(both, device, budget, least=2 if tiny else 20)
    return {
        "model": name,
        "samples": samples,
        "pixels": pixels,
        "classes": classes,
        **{name: spread.as_dict() for name, spread in took.items()},
        "overhead": took["with CAR"].median / took["cross-entropy"].median - 1,
    }


def vision_transformer(pixels: int, classes: int, depth: int) -> tuple[str, nn.Module]:
    """timm's ViT-S/16 or, without timm, torchvision's transformer in that size."""
    try:
        import timm
    except ImportError:
        from torchvision.models import VisionTransformer

        sizes = {"patch_size": 16, "num_layers": depth, "num_heads": 6, "hidden_dim": 384, "mlp_dim": 1536}
        return "torchvision's ViT-S/16", VisionTransformer(image_size=pixels, num_classes=classes, **sizes)
    name = "vit_small_patch16_224"
    return f"timm's {name}", timm.create_model(name, img_size=pixels, num_classes=classes, depth=depth)
