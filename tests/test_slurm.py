"""The scripts for Slurm, with a pretended cluster: what they start, and with which words."""

import os
import re
import shlex
import subprocess
from pathlib import Path

import pytest

from car_ext.cli.parser import Parser
from car_ext.commands import program

FOLDER = Path(__file__).parents[1] / "examples" / "slurm"
PRETENDED = {
    "scontrol": 'test "$*" = "show hostnames node[7-8]" && printf "node7\\nnode8\\n"',
    "srun": 'exec "$@"',
    "torchrun": 'printf "%s\\n" torchrun "$@"',
    "car-ext": 'printf "%s\\n" car-ext "$@"',
}
CLUSTER = {
    "SLURM_JOB_NODELIST": "node[7-8]",
    "SLURM_JOB_NUM_NODES": "2",
    "SLURM_GPUS_ON_NODE": "4",
    "SLURM_JOB_ID": "123",
}


@pytest.fixture
def start(tmp_path):
    for name, body in PRETENDED.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{body}\n")
        (tmp_path / name).chmod(0o755)

    def start(script: str, *words: str) -> list[str]:
        environment = CLUSTER | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = ["bash", str(FOLDER / script), *words]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout.splitlines()

    return start


def test_a_training_is_launched_on_every_machine_and_resumed(start):
    words = start("train.sbatch", "--out", "/shared/my run")
    assert words == shlex.split(
        "torchrun --nnodes 2 --nproc-per-node 4 --rdzv-backend c10d --rdzv-id 123 --rdzv-endpoint node7:29500 "
        "--module car_ext train --resume --out '/shared/my run'"
    )
    from torch.distributed.run import get_args_parser

    known = get_args_parser().parse_args(words[1:])
    assert (known.module, known.training_script) == (True, "car_ext")
    assert known.training_script_args == ["train", "--resume", "--out", "/shared/my run"]


def test_a_worker_of_an_array_is_the_command_itself(start):
    assert start("sweep.sbatch", "sweep", "--space", "my space.yaml") == [
        "car-ext",
        "sweep",
        "--space",
        "my space.yaml",
    ]


@pytest.mark.parametrize("script", sorted(FOLDER.iterdir()), ids=lambda path: path.name)
def test_what_a_script_says_of_itself_is_so(script):
    text = script.read_text(encoding="utf-8")
    subprocess.run(["bash", "-n", str(script)], check=True)
    comments = text[: text.index("set -euo pipefail")]  # Slurm reads its options up to the first command
    assert all(line.startswith("#") for line in comments.splitlines())
    assert "#SBATCH --requeue" in comments
    for line in re.findall(r"^#   (sbatch (?:.*\\\n#)*.*)", comments, re.MULTILINE):
        words = shlex.split(line.replace("\\\n#", ""))
        words = words[words.index(f"examples/slurm/{script.name}") + 1 :]
        command = words.pop(0) if script.name == "sweep.sbatch" else "train"
        Parser(fill=program.COMMANDS[command].add_options).parse_args(words)  # ends the test where it knows a word not
