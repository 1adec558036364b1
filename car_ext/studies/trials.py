"""Optuna's trials: which wait, which were interrupted, and where their runs lie."""

import hashlib
import json
import os
import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from car_ext.config.config import Config
from car_ext.errors import InputError

try:
    import optuna
    from optuna.trial import TrialState
except ImportError:  # an extra, which only this file needs
    optuna = None  # type: ignore[assignment, unused-ignore]  # mypy sees a module, where it is installed
HEARTBEAT = 60  # seconds; after two without one a trial counts as interrupted


def check_same(study: "optuna.Study", out: Path, config: Config, facts: dict[str, Any]) -> None:
    """Refuse to add to a sweep that began as another one."""
    before = study.user_attrs.get("sweep")
    if before is None:
        study.set_user_attr("sweep", {"job": config.to_dict(), **facts})
        return
    differ = Config.from_dict(before["job"], f"the sweep in {out}").differences(config)
    differ += [key for key, value in facts.items() if before[key] != value]
    if differ:
        raise InputError(
            f"the sweep in {out} began with other {', '.join(differ)}; give those, or another --sweep-out."
        )


def queue(study: "optuna.Study") -> int:
    """How many trials wait to be run, interrupted ones included."""
    optuna.storages.fail_stale_trials(study)
    for trial in study.get_trials(deepcopy=False, states=[TrialState.RUNNING]):
        host, process = trial.user_attrs.get("process", (None, None))
        if host == socket.gethostname() and not _alive(process):
            study.tell(trial.number, state=TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    known = [parameters_of(trial) for trial in trials if not is_interrupted(trial)]
    for parameters in map(parameters_of, filter(is_interrupted, trials)):
        if parameters and parameters not in known:
            study.enqueue_trial(parameters)
            known.append(parameters)
    return len(study.get_trials(deepcopy=False, states=[TrialState.WAITING]))


def begun(study: "optuna.Study") -> int:
    return sum(not is_interrupted(trial) for trial in study.get_trials(deepcopy=False))


def is_interrupted(trial: "optuna.trial.FrozenTrial") -> bool:
    return trial.state == TrialState.FAIL and "failed" not in trial.user_attrs


def _alive(process: int) -> bool:
    """Whether another process has this number; ours has, but begins its next trial only now."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def parameters_of(trial: "optuna.trial.FrozenTrial") -> dict[str, Any]:
    """What it trains or, still in the queue, will train."""
    return trial.system_attrs.get("fixed_params", trial.params)


def run_name(parameters: Mapping[str, Any]) -> str:
    """Of the runs with these settings, so that whoever meets them again goes on with the same ones."""
    return hashlib.sha256(json.dumps(parameters, sort_keys=True).encode()).hexdigest()[:12]
