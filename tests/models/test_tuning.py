"""What is trained of a backbone: the rest stays as it was, to the bit."""

import dataclasses

import pytest
import torch

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.export import to_onnx
from car_ext.models.classifier import build_model
from car_ext.models.tuning import AdaptFormer, LoRA, merge
from car_ext.run.classifier import load_run
from car_ext.runtimes.onnx_file import OnnxClassifier
from car_ext.training.callbacks import Callback
from car_ext.training.job import Job
from car_ext.training.plan import plan
from car_ext.training.train import train

VIT = Config(model="test_vit", img_size=32, patch_size=16, epochs=2, batch_size=100, imbalance_ratio=20, lr=0.01)


def build(name: str = "test_vit", **options):
    torch.manual_seed(0)
    return build_model(name, [5] * 3, 32, 3, [0.5] * 3, [0.5] * 3, **options)


def images() -> torch.Tensor:
    return torch.randint(0, 256, (2, 32, 32, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


class Interrupt(Callback):
    def after_epoch(self, row) -> None:
        raise StopIteration


def trained(model) -> set[str]:
    return {name for name, weight in model.named_parameters() if weight.requires_grad}


@pytest.mark.parametrize("how", ["lora", "adaptformer"])
def test_adapters_begin_as_the_network_itself(how):
    plain, adapted = build().eval(), build(tune=how).eval()
    adapted.head.load_state_dict(plain.head.state_dict())
    torch.testing.assert_close(adapted(images()), plain(images()))
    kind = {"lora": LoRA, "adaptformer": AdaptFormer}[how]
    names = [name for name, module in adapted.named_modules() if isinstance(module, kind)]
    assert len(names) == len(plain.backbone.blocks)
    assert {name.rpartition(".")[0].removesuffix(".down").removesuffix(".up") for name in trained(adapted)} == {
        "head",
        *names,
    }


def test_lora_s_formula():
    linear = torch.nn.Linear(5, 7)
    weight, layer, x = linear.weight.detach().clone(), LoRA(linear, rank=2), torch.randn(3, 5)
    torch.nn.init.normal_(layer.b)
    expected = x @ (weight + layer.b @ layer.a).T + linear.bias
    torch.testing.assert_close(layer(x), expected)
    merged = layer.merged()
    assert merged is linear
    torch.testing.assert_close(merged(x), expected)


def test_adaptformer_s_formula():
    mlp, x = torch.nn.Linear(5, 5), torch.randn(3, 5)
    layer = AdaptFormer(mlp, 5, bottleneck=2)
    torch.nn.init.normal_(layer.up.weight)
    torch.testing.assert_close(layer(x), mlp(x) + 0.1 * (x @ layer.down.weight.T).relu() @ layer.up.weight.T)


def test_normalisations_and_head_alone():
    model = build("resnet10t", tune="norm")
    assert "backbone.layer1.0.bn1.weight" in trained(model)
    assert {weight.dim() for weight in model.backbone.parameters() if weight.requires_grad} == {1}
    assert trained(build("resnet10t", tune="head")) == {"head.weight", "head.bias"}


def test_adapters_are_for_transformers():
    for name, size in (("resnet10t", 32), ("convnet", 8)):
        with pytest.raises(InputError, match="--tune lora is for transformers"):
            build_model(name, [5] * 3, size, 3, [0.5] * 3, [0.5] * 3, tune="lora")


@pytest.mark.parametrize("how", ["lora", "adaptformer"])
def test_an_adapted_run_is_resumed_loaded_and_exported(tmp_path, how):
    config = dataclasses.replace(VIT, tune=how, out=str(tmp_path / "run"))
    job = Job(config)
    before = {name: weight.clone() for name, weight in job.model.named_parameters()}
    with pytest.raises(StopIteration):
        train(config, progress=False, callbacks=[Interrupt()])
    summary = train(dataclasses.replace(config, resume=True), progress=False)
    whole = train(dataclasses.replace(config, out=str(tmp_path / "whole")), progress=False)
    assert {**summary, "seconds": 0} == {**whole, "seconds": 0}
    model, _ = load_run(config.run_dir)
    state = model.state_dict()
    assert torch.equal(state["backbone.patch_embed.proj.weight"], before["backbone.patch_embed.proj.weight"])
    assert not any(isinstance(module, LoRA) for module in model.modules())
    found = Job(dataclasses.replace(config, out=str(tmp_path / "other"))).data.test.images[:4]
    exported = OnnxClassifier(to_onnx(config.run_dir))
    with torch.no_grad():
        torch.testing.assert_close(
            torch.from_numpy(exported(found)), model(torch.from_numpy(found)), atol=1e-4, rtol=1e-4
        )
    assert plan(config).parameters == (summary["parameters"], sum(before[name].numel() for name in trained(job.model)))


def test_the_head_alone_is_trained_on_features_computed_once(tmp_path):
    config = Config(tune="head", epochs=2, augment="crop", out=str(tmp_path / "run"))
    job = Job(config)
    assert (job.batches.cached, job.augment, plan(config).augment) == (True, "none", "none")
    before = job.model.backbone.state_dict()
    train(config, progress=False)
    model, _ = load_run(config.run_dir)
    assert all(torch.equal(weight, before[name]) for name, weight in model.backbone.state_dict().items())
    assert not torch.equal(model.head.weight, job.model.head.weight)


def test_merged_networks_have_the_plain_names():
    model, adapted = build(), build(tune="lora")
    merge(adapted.backbone)
    assert adapted.state_dict().keys() == model.state_dict().keys()
