"""Builds the three shared objects. Everything static about the package is in pyproject.toml.

car_ext._C       operators, CPU         always
car_ext._C_cuda  operators, CUDA        when torch has CUDA: with the system's nvcc of the same major version or, where
                                        there is no nvcc, with one that pip fetches for the build
car_ext._info    build information      always (pybind11)

The first two use LibTorch's stable ABI only: one build loads under every torch from 2.11 on.

Environment: CAR_EXT_CUDA=0 builds without CUDA, CAR_EXT_CUDA=pypi fetches nvcc even where the system has one.
TORCH_CUDA_ARCH_LIST overrides the architectures.
"""

import importlib.metadata
import importlib.util
import os
import re
import shutil
import subprocess
from pathlib import Path

from setuptools import Extension, setup

NEEDS_TORCH = "2.11"
STABLE_ABI = "0x020a000000000000"  # the oldest stable ABI with all we call: torch 2.10's
OPERATORS = ("car_step", "confusion", "spectral_norm")
ARCHITECTURES = ("7.5", "8.0", "8.6", "8.9", "9.0", "10.0", "12.0")
VERSION = re.search(r'^version = "(.+)"', Path("pyproject.toml").read_text(), re.M).group(1)


WANTED = os.environ.get("CAR_EXT_CUDA", "auto")


def system_toolkit() -> str | None:
    """The toolkit's real root. The nvcc on PATH may be a wrapper script elsewhere; a dry run names the true folder."""
    if os.environ.get("CUDA_HOME"):
        return os.environ["CUDA_HOME"]
    nvcc = shutil.which("nvcc") or shutil.which("/usr/local/cuda/bin/nvcc")
    if nvcc is None:
        return None
    dry_run = subprocess.run(
        [nvcc, "--dryrun", "-x", "cu", "-E", os.devnull], capture_output=True, text=True, check=False
    )
    top = re.search(r"^#\$ TOP=(.+)$", dry_run.stderr, re.M)
    return str(Path(top.group(1).strip()).resolve()) if top else None


def fetched_roots() -> list[Path]:
    """Where the packages with torch's CUDA libraries lie; under build isolation nvcc has a root of its own."""
    nvidia = importlib.util.find_spec("nvidia")
    return [root for place in (nvidia.submodule_search_locations if nvidia else ()) for root in Path(place).glob("cu*")]


system = None if WANTED in ("0", "pypi") else system_toolkit()
fetched = next((str(root) for root in fetched_roots() if (root / "bin" / "nvcc").exists()), None)
if WANTED != "0" and (toolkit := system or fetched):
    os.environ["CUDA_HOME"] = toolkit  # torch.utils.cpp_extension reads it when imported

import pybind11  # noqa: E402
import torch  # noqa: E402
from torch.utils.cpp_extension import CUDA_HOME, BuildExtension, CppExtension, CUDAExtension  # noqa: E402


def cuda_release() -> tuple[int, int] | None:
    """Release of the nvcc to build with, or None with the reason printed."""
    if WANTED == "0":
        return None
    if torch.version.cuda is None:
        print("car_ext: building without CUDA: this torch is a CPU build")
        return None
    if CUDA_HOME is None or not (nvcc := Path(CUDA_HOME, "bin", "nvcc")).exists():
        print("car_ext: building without CUDA: no nvcc found; set CUDA_HOME to a CUDA toolkit, or build with isolation")
        return None
    text = subprocess.run([nvcc, "--version"], capture_output=True, text=True, check=True).stdout
    release = tuple(int(part) for part in re.search(r"release (\d+)\.(\d+)", text).groups())
    if release[0] != int(torch.version.cuda.split(".")[0]):
        found = ".".join(map(str, release))
        print(f"car_ext: building without CUDA: nvcc is {found}, but torch is for CUDA {torch.version.cuda}")
        return None
    return release


def build_requirements() -> list[str]:
    """The nvcc that fits torch's CUDA libraries, for pip to fetch, where the system has none.

    Named by its own package: pip takes `cuda-toolkit[nvcc]` for installed as soon as `cuda-toolkit` is.
    """
    if WANTED == "0" or system or torch.version.cuda is None:
        return []
    try:
        toolkit = importlib.metadata.requires("cuda-toolkit") or ()
    except importlib.metadata.PackageNotFoundError:  # torch brought its CUDA in some other way
        return []
    return [line.split(";")[0].strip() for line in toolkit if re.search(r"extra == .nvcc.", line)]


def supported_architectures() -> str:
    listed = subprocess.run(
        [Path(CUDA_HOME, "bin", "nvcc"), "--list-gpu-arch"], capture_output=True, text=True, check=True
    ).stdout
    have = [a for a in ARCHITECTURES if f"compute_{a.replace('.', '')}\n" in listed + "\n"]
    return ";".join(have) + "+PTX"


macros = [("TORCH_TARGET_VERSION", STABLE_ABI)]
# errno and traps off lets loops over exp and division vectorise; unlike fast-math neither changes any result.
cxx = ["-std=c++20", "-O3", "-g0", "-fvisibility=hidden", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd"]
release = cuda_release()
extensions = [
    CppExtension(
        "car_ext._C",
        ["csrc/car_ops.cpp", *(f"csrc/cpu/{operator}.cpp" for operator in OPERATORS)],
        define_macros=macros,
        extra_compile_args={"cxx": cxx},
        extra_link_args=["-s"],
        py_limited_api=True,
    )
]
if release:
    os.environ.setdefault("TORCH_CUDA_ARCH_LIST", supported_architectures())
    cuda = CUDAExtension(
        "car_ext._C_cuda",
        ["csrc/cuda/launch.cu", *(f"csrc/cuda/{operator}.cu" for operator in OPERATORS)],
        define_macros=[*macros, ("USE_CUDA", None)],
        # nvcc searches its own root only, and fetched packages may lie in two
        include_dirs=[] if system else [str(root / d) for root in fetched_roots() for d in ("include", "include/cccl")],
        library_dirs=[] if system else [str(root / "lib") for root in fetched_roots()],
        extra_compile_args={
            "cxx": ["-std=c++20", "-O3"],
            "nvcc": ["-std=c++20", "-O3", "--threads=2", "-Xcompiler=-fvisibility=hidden", "-Xfatbin=-compress-all"],
        },
        extra_link_args=["-s"],
        py_limited_api=True,
    )
    # The static runtime makes the object independent of which CUDA runtime torch brought.
    cuda.libraries = ["cudart_static" if lib == "cudart" else lib for lib in cuda.libraries] + ["rt", "dl", "pthread"]
    extensions.append(cuda)

quoted = {
    "CAR_BUILD_TORCH": torch.__version__,
    "CAR_NEEDS_TORCH": NEEDS_TORCH,
    "CAR_BUILD_CUDA": "{}.{}".format(*release) if release else "",
    "CAR_BUILD_ARCHITECTURES": os.environ["TORCH_CUDA_ARCH_LIST"] if release else "",
    "CAR_VERSION": VERSION,
}
extensions.append(
    Extension(
        "car_ext._info",
        ["csrc/info.cpp"],
        include_dirs=[pybind11.get_include()],
        define_macros=[(name, f'"{value}"') for name, value in quoted.items()],
        extra_compile_args=["-O2", "-g0", "-std=c++17", "-fvisibility=hidden"],
        extra_link_args=["-s"],
        language="c++",
    )
)
setup(
    ext_modules=extensions,
    setup_requires=build_requirements(),
    cmdclass={"build_ext": BuildExtension.with_options(use_ninja=True)},
)
