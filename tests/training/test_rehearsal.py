"""Three steps of a job say how long it takes and how much memory; nothing stays of them."""

import dataclasses

import pytest
import torch

from car_ext.config.config import Config
from car_ext.machine.memory import peak_bytes
from car_ext.training import job as jobs
from car_ext.training import rehearsal
from car_ext.training.plan import plan
from car_ext.training.rehearsal import duration, rehearse


def test_three_steps_are_tried_and_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seen, step = [], jobs.Job.step

    def counted(self, batch, *rest):
        seen.append(len(batch[1]))
        return step(self, batch, *rest)

    monkeypatch.setattr(jobs.Job, "step", counted)
    generator = torch.get_rng_state()
    found = rehearse(plan(Config(epochs=7, mix="mixup", accumulate=2, ema=0.9, out=str(tmp_path / "run"))))
    assert seen == [64, 64, 64]
    assert (found.epochs, found.steps, found.tried) == (7, 5, 3)
    assert found.epoch_seconds == pytest.approx(5 * (found.step_seconds + found.read_seconds) + found.score_seconds)
    assert 1e8 < found.peak <= peak_bytes()  # digits are held as they come
    assert "measured" in str(found)
    assert list(tmp_path.iterdir()) == []
    torch.set_rng_state(generator)


def test_images_that_a_run_will_hold_count(monkeypatch):
    class Lazy:
        def __len__(self):
            return 100

    data = jobs.Job(Config(epochs=1)).data
    lazy = dataclasses.replace(
        data, train=dataclasses.replace(data.train, images=Lazy(), targets=data.train.targets[:100])
    )
    size = 100 * 8 * 8
    assert rehearsal._decoded_bytes(Config(cache_gb=1), lazy) == size
    assert rehearsal._decoded_bytes(Config(cache_gb=1e-6), lazy) == 0
    assert rehearsal._decoded_bytes(Config(cache_gb=1), data) == 0


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"data": "cifar100", "imbalance_ratio": 100.0}, "data are not here"),
        ({"model": "resnet50", "img_size": 224, "batch_size": 256, "device": "cpu"}, "takes minutes"),
    ],
)
def test_what_cannot_be_tried_is_not(options, words):
    assert words in rehearse(plan(Config(**options)))


def test_features_are_tried_on_a_batch(monkeypatch):
    monkeypatch.setattr("car_ext.training.passes.features", None)
    found = rehearse(plan(Config(tune="head")))
    assert (found.tried, found.steps) == (0, 5)
    assert found.score_seconds > 0
    assert "for the features of all images, once" in str(found)


def test_steps_that_do_not_fit_are_not_tried(monkeypatch):
    monkeypatch.setattr(rehearsal, "available_bytes", lambda: 1000)
    assert "do not fit into the memory" in rehearse(plan(Config(device="cpu")))


def test_a_long_step_is_the_only_one(monkeypatch):
    monkeypatch.setattr(rehearsal, "LONG", 0)
    assert rehearse(plan(Config())).tried == 1


def test_published_weights_are_not_fetched(monkeypatch):
    built = []

    def build(config, data, size):
        built.append((config.pretrained, config.stem, size))
        raise StopIteration

    monkeypatch.setattr(jobs, "new_network", build)
    with pytest.raises(StopIteration):
        rehearse(plan(Config(model="resnet10t", pretrained="timm", epochs=1)))
    assert built == [(None, "keep", 176)]


def test_a_plan_tells_stem_and_operations():
    config = Config(model="resnet10t", img_size=32)
    wide, kept = plan(config), plan(dataclasses.replace(config, pretrained="timm"))
    assert (wide.stem, kept.stem, plan(Config()).stem) == ("wide", "keep", None)
    assert "3x3 at stride 1 (--stem)" in str(wide)
    assert wide.operations > 3 * kept.operations
    assert plan(Config()).operations == 2 * (9 * 64 * (32 + 32 * 64) + 9 * 16 * 64 * 128 + 128 * 10)
    assert plan(dataclasses.replace(config, accumulate=3)).steps_per_epoch == 2


@pytest.mark.parametrize(("seconds", "text"), [(0.0123, "0.012 s"), (45.6, "46 s"), (150, "2.5 min"), (7200, "2.0 h")])
def test_durations(seconds, text):
    assert duration(seconds) == text
