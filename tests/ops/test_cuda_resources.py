"""What nvcc makes of the CUDA kernel on every architecture: no spills, no stack. No GPU is needed."""

import os
import re
import shutil
import subprocess
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent / "cuda_shim" / "instances.cu"
ALL = ("75", "80", "86", "89", "90", "100", "120")
FEW = ("75", "90")  # the oldest and the one tuned for; the others with CAR_EXT_ALL_ARCHITECTURES=1
PATTERN = re.compile(
    r"Compiling entry function '(?P<name>\w+)'.*?"
    r"(?P<stack>\d+) bytes stack frame, (?P<stores>\d+) bytes spill stores, (?P<loads>\d+) bytes spill loads.*?"
    r"Used (?P<registers>\d+) registers",
    re.S,
)


@pytest.mark.timeout(1200)
def test_no_spills_and_no_stack(tmp_path, capsys):
    home = os.environ.get("CUDA_HOME")
    nvcc = shutil.which(str(Path(home, "bin", "nvcc"))) if home else shutil.which("nvcc")
    if nvcc is None:
        pytest.skip("no nvcc: the CUDA kernel's registers and spills are NOT checked here")

    def compile_for(architecture):
        command = [nvcc, "-std=c++17", "-O3", "-cubin", f"-arch=sm_{architecture}", "-Xptxas=-v", str(SOURCE)]
        run = subprocess.run(
            [*command, "-o", str(tmp_path / architecture)], capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, run.stderr
        return [m.groupdict() for m in PATTERN.finditer(run.stderr)]

    architectures = ALL if os.environ.get("CAR_EXT_ALL_ARCHITECTURES") == "1" else FEW
    with ThreadPoolExecutor(2) as pool:
        found = dict(zip(architectures, pool.map(compile_for, architectures), strict=True))
    with capsys.disabled():
        for architecture, kernels in found.items():
            for k in kernels:
                dtype = k["name"].split("car_step_kernelI")[1][:8]
                use = f"{k['registers']:>3} registers, {k['stack']} stack, {k['stores']}/{k['loads']} spilled"
                print(f"\nsm_{architecture:<4} {dtype:<9} {use}", end="")
    for kernels in found.values():
        assert len(kernels) == 4
        for k in kernels:
            assert (k["stack"], k["stores"], k["loads"]) == ("0", "0", "0"), k
