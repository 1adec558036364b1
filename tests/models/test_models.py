"""Every model takes stored images, whatever their size; preprocessing is part of it."""

import pytest
import timm
import torch
from torch import nn

from car_ext.errors import InputError
from car_ext.models.classifier import Classifier, build_model

K, MEAN, STD = 7, [0.5, 0.4, 0.3], [0.2, 0.3, 0.4]
COUNTS = [5] * K


def build(name: str, size: int = 32, **options) -> Classifier:
    torch.manual_seed(0)
    return build_model(name, COUNTS, size, 3, MEAN, STD, **options)


def test_preprocessing_is_part_of_the_model():
    model = Classifier(nn.Identity(), nn.Identity(), MEAN, STD)
    images = torch.randint(0, 256, (2, 4, 5, 3), dtype=torch.uint8)
    expected = (images.double() / 255 - torch.tensor(MEAN)) / torch.tensor(STD)
    torch.testing.assert_close(model(images).double(), expected.permute(0, 3, 1, 2), atol=1e-6, rtol=1e-6)
    assert {"mean", "std"} <= set(model.state_dict())


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("convnet", 8),
        ("cifar_resnet8", 32),
        ("cifar_resnet20", 17),
        ("cifar_resnet8x2", 32),
        ("resnet18", 32),
        ("resnet50", 32),
        ("vit_tiny_patch16_224", 32),
        ("swin_tiny_patch4_window7_224", 32),
        ("convnext_atto", 32),
        ("efficientnet_b0", 32),
        ("mobilenetv3_small_050", 32),
    ],
)
def test_models_train_on_small_images(name, size):
    model = build(name, size)
    logits = model(torch.randint(0, 256, (2, size, size, 3), dtype=torch.uint8))
    assert logits.shape == (2, K)
    logits.square().sum().backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert model.training


@pytest.mark.parametrize("depth", [8, 20, 32, 44, 56])
def test_cifar_resnets_have_as_many_layers_as_their_name_says(depth):
    model = build(f"cifar_resnet{depth}")
    layers = [m for m in model.modules() if isinstance(m, (nn.Conv2d, nn.Linear))]
    assert len(layers) == depth  # option-A shortcuts add none


def test_cifar_resnet32_is_the_published_one():
    model = build_model("cifar_resnet32", [5] * 10, 32, 3, MEAN, STD)
    assert sum(parameter.numel() for parameter in model.parameters()) == 464154
    std = model.head.weight.std().item()
    assert std == pytest.approx((2 / 64) ** 0.5, rel=0.15)  # Kaiming normal


def test_small_images_keep_their_resolution_in_the_stem():
    small, large = build("resnet18", 32).backbone, timm.create_model("resnet18")
    assert (small.conv1.kernel_size, small.conv1.stride) == ((3, 3), (1, 1))
    assert isinstance(small.maxpool, nn.Identity)
    assert small.forward_features(torch.zeros(1, 3, 32, 32)).shape[-2:] == (4, 4)
    assert build("resnet18", 96).backbone.conv1.kernel_size == large.conv1.kernel_size == (7, 7)


def test_the_stem_is_a_choice():
    assert build("resnet18", 32, stem="keep").backbone.conv1.kernel_size == (7, 7)
    wide = build("resnet18", 96, stem="wide")
    assert (wide.backbone.conv1.stride, wide.built["stem"]) == ((1, 1), "wide")
    for name, size, words in (
        ("vit_tiny_patch16_224", 32, "has patches; give --patch-size"),
        ("convnet", 8, "takes no --stem wide"),
        ("dla34", 32, "as wide already"),
    ):
        with pytest.raises(InputError, match=words):
            build(name, size, stem="wide")


def test_published_weights_keep_their_stem(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **kw: create(name, **kw))
    for pretrained, stem in ((None, "wide"), ("timm", "keep")):
        assert build("resnet18", 32, pretrained=pretrained).built["stem"] == stem


def test_the_small_stem_keeps_the_middle_of_the_kernel(monkeypatch):
    original = timm.create_model("resnet18", num_classes=K)
    monkeypatch.setattr(
        timm, "create_model", lambda *args, **kw: original if kw else timm.models.create_model("resnet18")
    )
    kernel = original.conv1.weight.detach().clone()
    assert torch.equal(build("resnet18").backbone.conv1.weight, kernel[..., 2:5, 2:5])


@pytest.mark.parametrize(
    ("size", "patch", "tokens"), [(32, 4, 64), (64, 8, 64), (96, 8, 144), (224, 16, 196), (16, 4, 16)]
)
def test_transformer_patches_leave_enough_tokens(size, patch, tokens):
    embed = build("vit_tiny_patch16_224", size).backbone.patch_embed
    assert (embed.patch_size, embed.num_patches) == ((patch, patch), tokens)


def test_patch_size_can_be_chosen():
    assert build("vit_tiny_patch16_224", 32, patch_size=8).backbone.patch_embed.num_patches == 16


def test_grey_images():
    model = build_model("resnet18", COUNTS, 16, 1, [0.5], [0.2])
    assert model.eval()(torch.zeros(1, 16, 16, 1, dtype=torch.uint8)).shape == (1, K)


@pytest.mark.parametrize(
    ("name", "size", "options", "words"),
    [
        ("resnet81", 32, {}, ["resnet81", "did you mean resnet18?"]),
        ("cifar_resnet33", 32, {}, ["did you mean cifar_resnet32?"]),
        ("vit_tiny_patch16_224", 30, {}, ["30", "--patch-size"]),
        ("vit_tiny_patch16_224", 32, {"patch_size": 5}, ["32", "5-pixel"]),
        ("resnet18", 32, {"patch_size": 4}, ["--patch-size 4", "resnet18"]),
        ("convnet", 8, {"pretrained": "timm"}, ["convnet", "--pretrained"]),
        ("levit_128", 32, {}, ["levit_128", "32 pixels"]),
    ],
)
def test_what_cannot_be_built_is_named_with_the_fix(name, size, options, words):
    with pytest.raises(InputError) as error:
        build(name, size, **options)
    assert all(word in str(error.value) for word in words), error.value


def test_pretrained_weights_bring_their_statistics(monkeypatch):
    create = timm.create_model
    monkeypatch.setattr(timm, "create_model", lambda name, pretrained=False, **kw: create(name, **kw))
    model = build_model("resnet18", COUNTS, 32, 3, None, None, pretrained="timm")
    assert model.mean.tolist() == pytest.approx([0.485, 0.456, 0.406])
    grey = build_model("resnet18", COUNTS, 32, 1, None, None, pretrained="timm")
    own = build_model("resnet18", COUNTS, 32, 3, MEAN, STD, pretrained="timm")
    assert own.mean.tolist() == pytest.approx(MEAN)
    assert grey.mean.tolist() == pytest.approx([(0.485 + 0.456 + 0.406) / 3])


def test_weights_that_cannot_be_downloaded(monkeypatch):
    create = timm.create_model

    def offline(name, pretrained=False, **options):
        if pretrained:
            raise OSError("no route to host")
        return create(name, **options)

    monkeypatch.setattr(timm, "create_model", offline)
    with pytest.raises(InputError, match=r"no route to host.*leave --pretrained out"):
        build("resnet18", pretrained="timm")
