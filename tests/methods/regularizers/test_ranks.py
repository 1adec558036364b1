"""CAR over several processes: R ranks with B / R images each end where one with B images does."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

SCRIPT = str(Path(__file__).parents[2] / "helpers" / "ranks.py")
LAUNCHER = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]


def parameters(ranks: int) -> dict[str, list[float]]:
    command = [sys.executable, *([] if ranks == 1 else [*LAUNCHER, str(ranks)]), SCRIPT]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=200)
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def alone():
    return parameters(1)


@pytest.mark.parametrize("ranks", [2, 4])
def test_ranks_end_where_one_process_does(alone, ranks):
    together = parameters(ranks)
    assert alone.keys() == together.keys()
    for case, expected in alone.items():
        assert np.abs(np.subtract(together[case], expected)).max() < 1e-6, case
    assert len({tuple(found[:8]) for found in alone.values()}) == len(alone)  # each case does something of its own
