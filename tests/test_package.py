"""What was built, and how it says so."""

import json
import re
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import torch

from car_ext.ops import library


def test_bug_report(tmp_path):
    command = [sys.executable, "-m", "car_ext"]
    text = subprocess.run(command, capture_output=True, text=True, check=True, cwd=tmp_path).stdout
    for word in (torch.__version__.split("+")[0], "operators, CPU", "operators, CUDA", "onnxruntime", "needs_torch"):
        assert word in text
    facts = json.loads(subprocess.run([*command, "--json"], capture_output=True, check=True, cwd=tmp_path).stdout)
    assert "cpu" in facts["operator works on"]
    assert ("cuda" in facts["operator works on"]) == torch.cuda.is_available()
    assert facts["onnxruntime providers"][-1] == "CPUExecutionProvider"


@pytest.mark.parametrize("built", [library.CPU_OBJECT, library.CUDA_OBJECT], ids=["cpu", "cuda"])
def test_only_the_stable_abi_is_used(built):
    if built is None:
        pytest.skip(f"no CUDA object here: {library.CUDA_STATUS}")
    if shutil.which("nm") is None:
        pytest.skip("no nm (binutils) to read the symbols with")
    symbols = subprocess.run(["nm", "-D", "--undefined-only", built], capture_output=True, text=True, check=True).stdout
    assert "aoti_torch" in symbols
    assert not re.findall(r"_ZNK?(?:R)?(?:3c10|2at|5torch)\S+", symbols), "this build would break with the next torch"


def test_cuda_was_built_where_it_could_be():
    info = library.build_info()
    assert (library.CUDA_OBJECT is not None) == bool(info["cuda"] and torch.version.cuda)
    assert bool(info["cuda"]) == bool(info["cuda_architectures"])


def test_version_stands_once():
    import car_ext

    pyproject = Path(__file__).parents[1] / "pyproject.toml"
    assert f'version = "{car_ext.__version__}"' in pyproject.read_text(encoding="utf-8")
    assert library.build_info()["version"] == car_ext.__version__


def test_every_dependency_states_its_minimum():
    """`.ci/minimum` installs exactly those and uses them."""
    project = tomllib.loads((Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    assert [need for need in project["dependencies"] if not re.match(r"[a-z0-9-]+>=[0-9.]+(;|$)", need)] == []
