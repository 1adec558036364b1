"""Loggers: found by name, against a module that records, and against the real ones where they are installed."""

import dataclasses
import importlib
import json
import sys
from unittest.mock import MagicMock

import another_package
import pytest
from hears import Hears

from car_ext.config.config import Config
from car_ext.errors import InputError
from car_ext.training import logger
from car_ext.training.logger import LOGGERS, loggers
from car_ext.training.train import train

NAMES = ["mlflow", "trackio", "wandb"]


@pytest.fixture
def recorded(monkeypatch):
    """A stand-in for the package of a service."""

    def install(name):
        module = MagicMock(name=name)
        monkeypatch.setitem(sys.modules, name, module)
        return module

    return install


def rows(config):
    return [json.loads(line) for line in (config.run_dir / "metrics.jsonl").read_text().splitlines()]


def stop(row):
    raise StopIteration


@pytest.fixture
def config(tmp_path):
    return Config(epochs=2, out=str(tmp_path / "run"))


def test_wandb_is_told(recorded, config):
    wandb = recorded("wandb")
    summary = train(config, progress=False, callbacks=loggers(["wandb"]))
    options, run = wandb.init.call_args.kwargs, wandb.init.return_value
    assert (options["name"], options["dir"], options["resume"]) == ("run", str(config.run_dir), "allow")
    assert options["config"]["car"]["alpha"] == config.car.alpha
    told = [(call.args[0], call.kwargs["step"]) for call in run.log.call_args_list]
    assert [step for _, step in told] == [1, 2]
    assert told[1][0]["test_worst"] == rows(config)[1]["test_worst"]
    assert "sigma" not in told[1][0]  # None without CAR
    assert run.summary.update.call_args.args[0]["worst_class_accuracy"] == summary["worst_class_accuracy"]
    run.finish.assert_called_once_with(exit_code=0)


def test_wandb_goes_on_with_the_run_that_was_interrupted(recorded, config):
    wandb = recorded("wandb")
    with pytest.raises(StopIteration):
        train(config, progress=False, callbacks=[*loggers(["wandb"]), Hears(stop)])
    wandb.init.return_value.finish.assert_called_once_with(exit_code=1)
    train(dataclasses.replace(config, resume=True), progress=False, callbacks=loggers(["wandb"]))
    first, again = (call.kwargs["id"] for call in wandb.init.call_args_list)
    assert first == again


def test_mlflow_is_told(recorded, config):
    mlflow = recorded("mlflow")
    client = mlflow.MlflowClient.return_value
    client.create_run.return_value.info.run_id = "abc"
    mlflow.entities.Metric.side_effect = lambda *values: ("metric", *values)
    mlflow.entities.Param.side_effect = lambda *values: ("param", *values)
    train(config, progress=False, callbacks=loggers(["mlflow"]))
    parameters, *metrics = (call.kwargs for call in client.log_batch.call_args_list)
    assert ("param", "car.alpha", str(config.car.alpha)) in parameters["params"]
    values = {(key, step): value for call in metrics for _, key, value, _, step in call["metrics"]}
    assert values["test_worst", 1] == rows(config)[0]["test_worst"]
    assert ("final.worst_class_accuracy", 2) in values
    client.set_terminated.assert_called_once_with("abc", "FINISHED")


def test_trackio_is_told(recorded, config, monkeypatch):
    monkeypatch.setenv("TRACKIO_PROJECT", "mine")
    trackio = recorded("trackio")
    train(config, progress=False, callbacks=loggers(["trackio"]))
    assert trackio.init.call_args.kwargs["project"] == "mine"
    assert [call.kwargs["step"] for call in trackio.log.call_args_list] == [1, 2, 2]
    trackio.finish.assert_called_once_with()


def test_what_is_wrong_is_said_before_anything_is_trained(monkeypatch):
    with pytest.raises(InputError, match="--log wandbb is no logger; did you mean wandb"):
        loggers(["wandbb"])
    with pytest.raises(InputError, match="each once"):
        loggers(["wandb", "wandb"])
    for name in NAMES:
        monkeypatch.setitem(sys.modules, name, None)
        with pytest.raises(InputError, match=rf"--log {name} needs {name} .* pip install 'car-ext\[{name}\]'"):
            loggers([name])


def test_another_package_adds_one(tmp_path, monkeypatch, config):
    text = """
from car_ext.training.callbacks import Callback
from car_ext.training.logger import Logger
HEARD = []
class Mine(Callback):
    def after_epoch(self, row):
        HEARD.append(row["epoch"])
LOGGER = Logger("mine", Mine)
"""
    another_package.install(tmp_path, monkeypatch, "car_ext.loggers", "my_logger", "LOGGER", text)
    monkeypatch.setattr(logger, "LOGGERS", type(LOGGERS)(LOGGERS.package, LOGGERS.attribute, LOGGERS.group))
    assert [*logger.LOGGERS.known()] == [*NAMES, "mine"]
    train(config, progress=False, callbacks=loggers(["mine"]))
    assert importlib.import_module("my_logger").HEARD == [1, 2]


def test_the_real_wandb_offline(config, monkeypatch):
    pytest.importorskip("wandb", reason="--log wandb was not tried: pip install wandb")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    train(config, progress=False, callbacks=loggers(["wandb"]))
    (written,) = config.run_dir.glob("wandb/offline-run-*/*.wandb")
    assert written.stat().st_size > 1000
    assert b"test_worst" in written.read_bytes()


def test_the_real_mlflow_in_a_file(config, tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow", reason="--log mlflow was not tried: pip install mlflow")
    where = f"sqlite:///{tmp_path}/mlflow.db"
    monkeypatch.setattr(mlflow, "MlflowClient", lambda plain=mlflow.MlflowClient: plain(tracking_uri=where))
    with pytest.raises(StopIteration):
        train(config, progress=False, callbacks=[*loggers(["mlflow"]), Hears(stop)])
    client, number = mlflow.MlflowClient(), (config.run_dir / "mlflow.id").read_text().strip()
    assert client.get_run(number).info.status == "FAILED"
    summary = train(dataclasses.replace(config, resume=True), progress=False, callbacks=loggers(["mlflow"]))
    found = client.get_run(number)
    assert found.info.status == "FINISHED"
    assert found.data.params["car.alpha"] == str(config.car.alpha)
    assert found.data.metrics["final.worst_class_accuracy"] == summary["worst_class_accuracy"]
    history = client.get_metric_history(number, "test_overall")
    assert [metric.step for metric in history] == [1, 2]


def test_the_real_trackio_in_a_folder(config, tmp_path, monkeypatch):
    monkeypatch.setenv("TRACKIO_DIR", str(tmp_path / "trackio"))  # read when it is imported
    pytest.importorskip("trackio", reason="--log trackio was not tried: pip install trackio")
    train(config, progress=False, callbacks=loggers(["trackio"]))
    assert list((tmp_path / "trackio").rglob("*.db"))
