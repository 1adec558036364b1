"""Half precision: when it is taken, that it learns, and that a run goes on in what it began in."""

import dataclasses

import pytest
import torch
from finished import rows

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.machine import device
from car_ext.training.callbacks import Callback
from car_ext.training.plan import plan
from car_ext.training.train import train


@pytest.mark.cuda
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("amp", ["none", "bf16", "fp16"])
def test_half_precision_learns_and_resumes(tmp_path, amp):
    config = Config(out=str(tmp_path / "run"), device="cuda", amp=amp, model="cifar_resnet8", regularizer="car")
    summary = train(config, progress=False)
    assert summary["overall_accuracy"] > 0.6
    (config.run_dir / "summary.json").unlink()
    again = train(dataclasses.replace(config, resume=True), progress=False)
    assert again["per_class_accuracy"] == summary["per_class_accuracy"]


def test_bfloat16_on_a_cpu_learns_and_resumes(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: True)  # others compute it too, slowly
    options = {"amp": "bf16", "channels_last": True, "model": "cifar_resnet8", "regularizer": "car", "epochs": 6}
    config = Config(out=str(tmp_path / "run"), device="cpu", **options)
    summary = train(config, progress=False)
    assert (summary["amp"], summary["overall_accuracy"] > 0.4) == ("bfloat16", True)
    exact = train(dataclasses.replace(config, out=str(tmp_path / "exact"), amp="none"), progress=False)
    assert summary["scores"] != exact["scores"]  # it did round
    (config.run_dir / "summary.json").unlink()
    again = train(dataclasses.replace(config, resume=True), progress=False)
    assert again["per_class_accuracy"] == summary["per_class_accuracy"]


def test_bfloat16_is_refused_where_the_cpu_lacks_it(tmp_path, monkeypatch):
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: False)
    with pytest.raises(InputError, match="--amp is bf16, but this CPU has no AVX512-BF16 or AMX"):
        train(Config(out=str(tmp_path / "run"), device="cpu", amp="bf16"), progress=False)
    assert not (tmp_path / "run").exists()


WIDE = Config(device="cpu", img_size=24, model="cifar_resnet8", regularizer="car", epochs=2)


def cpu(monkeypatch, gains: bool, computes: bool = True) -> None:
    monkeypatch.setattr(device, "cpu_gains_by_bf16", lambda: gains)
    monkeypatch.setattr(device, "cpu_has_bf16", lambda: computes)


class Interrupt(Callback):
    def after_epoch(self, row) -> None:
        raise KeyboardInterrupt


def test_auto_is_bfloat16_on_a_cpu_that_gains_and_a_run_goes_on_in_what_it_began_in(tmp_path, monkeypatch, capsys):
    found = {}
    for gains in (True, False):
        whole, config = (dataclasses.replace(WIDE, out=str(tmp_path / f"{gains} {name}")) for name in ("whole", "cut"))
        cpu(monkeypatch, gains)
        summary = train(whole, progress=gains)
        with pytest.raises(KeyboardInterrupt):
            train(config, progress=False, callbacks=[Interrupt()])
        cpu(monkeypatch, not gains)  # auto says otherwise by now
        again = train(dataclasses.replace(config, resume=True), progress=False)
        assert summary["amp"] == again["amp"] == ("bfloat16" if gains else "none")
        assert rows(config) == rows(whole)
        found[gains] = rows(whole)
    assert "precision bf16 (auto: this CPU is faster in it)" in capsys.readouterr().err
    assert found[True] != found[False]  # it did round


def test_a_run_in_bfloat16_is_not_gone_on_with_where_the_cpu_cannot(tmp_path, monkeypatch):
    config = dataclasses.replace(WIDE, out=str(tmp_path / "run"))
    cpu(monkeypatch, gains=True)
    with pytest.raises(KeyboardInterrupt):
        train(config, progress=False, callbacks=[Interrupt()])
    cpu(monkeypatch, gains=False, computes=False)
    with pytest.raises(InputError, match=r"this --out began in bf16, but this CPU has no AVX512-BF16.*new --out"):
        train(dataclasses.replace(config, resume=True), progress=False)


@pytest.mark.parametrize(
    ("options", "against"),
    [
        ({"img_size": None}, "images of up to 16 pixels"),
        ({"tune": "head"}, "the head alone is trained"),
        ({"model": "efficientnet_lite0"}, "depthwise convolutions, which are not faster in bf16"),
        ({}, None),
    ],
)
def test_auto_asks_the_network_too(monkeypatch, options, against):
    cpu(monkeypatch, gains=True)
    said = plan(dataclasses.replace(WIDE, **options)).precision
    assert said == (f"float32 (auto: {against})" if against else "bf16 (auto: this CPU is faster in it)")
