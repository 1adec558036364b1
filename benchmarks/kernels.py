"""The operator beside plain PyTorch on one device: time, where it goes, memory traffic and peak memory."""

import copy
import functools
import itertools
import time
from collections.abc import Callable

import torch
import workload
from clock import Work, captured, in_turns
from report import RIVALS
from torch import Tensor, nn
from workload import Batches

from car_ext import CAR

SHAPES = [(128, 100), (128, 1000), (1024, 1000), (256, 8142)]
TINY = [(8, 10), (16, 40)]
FLOAT = 4  # bytes
ALMOST_ONE = 1 - 2**-23  # beta where no samples come in: with a smaller one the average would soon be zero


def measure(device: str, shapes: list[tuple[int, int]], budget: float, save: Callable[[dict], None]) -> dict:
    """Everything, `budget` seconds of turns a shape; `save` is given what there is after each shape."""
    warm_up(device)
    found = {
        "copy_bytes_per_second": copy_bandwidth(device, budget / 10),
        "cache_bytes": 0 if device == "cpu" else torch.cuda.get_device_properties(device).L2_cache_size,
        "floors": floors(device, budget / 10),
        "shapes": [],
    }
    for samples, classes in shapes:
        print(f"{samples} x {classes}", flush=True)
        found["shapes"].append(measure_shape(device, samples, classes, budget))
        save(found)
    return found


def measure_shape(device: str, samples: int, classes: int, budget: float) -> dict:
    """Spreads as dicts: "operator", "operator, cold cache", "module", the rivals; "python": the same without graphs."""
    data = [(logits.to(device), targets.to(device)) for logits, targets in workload.batches(samples, classes)]
    notes: list[str] = []
    modules = warm_modules(device, classes, data, notes)
    car = modules["car_ext"]
    print("  warm", flush=True)

    def twin(**changes) -> CAR:
        made = copy.deepcopy(car)
        vars(made).update(changes)
        return made

    flush = flusher(device)
    calls = workload.operator_calls(twin(), data)
    work = {
        "operator": captured(calls, device),
        "module": captured(workload.module_calls(twin(), data), device),
        "flush": captured([flush] * len(data), device),
        "flush and operator": captured(itertools.chain(*((flush, call) for call in calls)), device),
        "one iteration": captured(workload.operator_calls(twin(max_iterations=1), data), device),
        "no samples, one iteration": captured(
            workload.operator_calls(twin(max_iterations=1, beta=ALMOST_ONE), [(z[:0], y[:0]) for z, y in data]), device
        ),
        "python car_ext": in_rotation(twin(), data),
    }
    work["flush and operator"].steps = len(data)
    for name, module in modules.items():
        if name == "car_ext":
            continue
        if name != "(a)":  # an SVD waits for the device: no graph can hold it
            work[f"python {name}"] = in_rotation(module, data)
        try:
            work[name] = (
                in_rotation(module, data) if name == "(a)" else captured(workload.module_calls(module, data), device)
            )
        except Exception as problem:  # torch's own, of any class
            notes.append(f"{name} runs without a graph: {first_line(problem)}")
            work[name] = in_rotation(module, data)
    took = in_turns(work, device, budget, least=3 if device == "cpu" else 10)

    iterations = iterations_needed(car, data)
    peak = peak_bytes(device, twin(), *data[0])
    if device != "cpu":
        del work, modules
        torch.cuda.empty_cache()
    one = took["one iteration"]
    return {
        "samples": samples,
        "classes": classes,
        **{name: took[name].as_dict() for name in ("operator", "module", *RIVALS) if name in took},
        "operator, cold cache": took["flush and operator"].less(took["flush"]),
        "python": {name[7:]: spread.as_dict() for name, spread in took.items() if name.startswith("python")},
        "iterations": iterations,
        "phases": {
            "samples": one.less(took["no samples, one iteration"]),
            "average and first iteration": took["no samples, one iteration"].median,
            "later iterations": took["operator"].less(one),
        },
        "least_bytes": least_bytes(samples, classes, iterations),
        "peak_bytes": peak,
        "peak_bound": FLOAT * (2 * classes**2 + 2 * samples * classes),
        "notes": notes,
    }


def first_line(problem: Exception) -> str:
    return f"{type(problem).__name__}: {problem}".splitlines()[0][:200]


def warm_up(device: str, length: float = 0.5) -> None:
    """Brings the clocks up."""
    if device == "cpu":
        return
    square, end = torch.rand(4096, 4096, device=device), time.perf_counter() + length
    while time.perf_counter() < end:
        torch.mm(square, square)
        torch.cuda.synchronize()


def copy_bandwidth(device: str, budget: float) -> float:
    """Bytes a second, read and written, of a copy far larger than any cache."""
    elements = 2**18 if device == "cpu" else min(2**30, torch.cuda.mem_get_info()[0] // (4 * FLOAT))
    source = torch.rand(elements, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    took = in_turns({"copy": Work(functools.partial(target.copy_, source))}, device, budget)["copy"]
    return 2 * source.nbytes / took.median


def floors(device: str, budget: float) -> dict[str, dict]:
    """What any call must pay: a kernel that does nothing, in a graph; and car_step of one sample and two classes."""
    car = CAR([2, 1]).to(device)
    tiny = (torch.zeros(1, 2, device=device), torch.zeros(1, dtype=torch.int64, device=device))
    work = {"smallest call": captured(workload.operator_calls(car, [tiny] * 8), device)}
    if device != "cpu":
        work["empty kernel"] = captured([functools.partial(torch.cuda._sleep, 0)] * 8, device)
    return {name: spread.as_dict() for name, spread in in_turns(work, device, budget).items()}


def warm_modules(device: str, classes: int, data: Batches, notes: list[str]) -> dict[str, nn.Module]:
    """The contenders that run here, on the device, after a round over all batches."""
    torch.compiler.reset()
    ready = {}
    for name, module in workload.contenders(classes, compiled=device != "cpu").items():
        try:
            module.to(device)
            for batch in data[:2] if name == "(a)" else data:
                workload.step(module, *batch)
            ready[name] = module
        except Exception as problem:
            if name == "car_ext":
                raise
            notes.append(f"{name} does not run here: {first_line(problem)}")
    return ready


def in_rotation(module: nn.Module, data: Batches) -> Work:
    """A step from Python, on one batch after the other."""
    turns = itertools.cycle(data)
    return Work(lambda: workload.step(module, *next(turns)))


def flusher(device: str) -> Callable:
    """Writes more than the cache holds, as the rest of a training step does."""
    size = 2**10 if device == "cpu" else 2 * torch.cuda.get_device_properties(device).L2_cache_size
    return torch.empty(size, dtype=torch.uint8, device=device).zero_


def iterations_needed(car: CAR, data: Batches) -> float:
    """Mean of the fewest that reach the tolerance: the operator does not tell, so it is given ever higher caps."""
    state, needed = copy.deepcopy(car), []
    for batch in data:
        for cap in range(1, car.max_iterations + 1):
            probe = copy.deepcopy(state)
            probe.max_iterations = cap
            probe(*batch)
            if probe.spectral_error <= car.tolerance:
                break
        needed.append(cap)
        state(*batch)
    return sum(needed) / len(needed)


def least_bytes(samples: int, classes: int, iterations: float) -> float:
    """docs/kernel.md, "Bytes", for float32 and a matrix that does not stay on chip."""
    return FLOAT * (2 * samples * classes + (1 + iterations) * classes**2)


def peak_bytes(device: str, car: CAR, logits: Tensor, targets: Tensor) -> int | None:
    """What a step of the module allocates beyond its inputs, at most; None on a CPU."""
    if device == "cpu":
        return None
    workload.step(car, logits, targets)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    workload.step(car, logits, targets)
    return torch.cuda.max_memory_allocated() - before
