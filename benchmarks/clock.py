"""Seconds that calls take on a CPU or a GPU: measured in turns, so that what disturbs one disturbs all."""

import math
import statistics
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass

import torch

Call = Callable[[], object]
TURN = 0.002  # seconds that a turn lasts at least: events tell half a microsecond, and a first call has cold caches


@dataclass
class Spread:
    """Seconds: median, 20th and 80th percentile of `turns` measurements."""

    median: float
    low: float
    high: float
    turns: int
    in_graph: bool = False

    @classmethod
    def of(cls, values: list[float], in_graph: bool = False) -> "Spread":
        ranked = sorted(values)
        low, high = (ranked[round(share * (len(ranked) - 1))] for share in (0.2, 0.8))
        return cls(statistics.median(ranked), low, high, len(ranked), in_graph)

    def less(self, other: "Spread") -> float:
        """The medians' difference, at least 0."""
        return max(0.0, self.median - other.median)

    as_dict = asdict


@dataclass
class Work:
    """A call that does `steps` of what is measured, perhaps by replaying a CUDA graph."""

    call: Call
    steps: int = 1
    in_graph: bool = False
    keeps: object = None  # what must stay alive: a graph does not hold the tensors it reads and writes


def seconds(call: Call, device: str, repeats: int = 1) -> float:
    """For one call. On a GPU between two events, after what is queued already."""
    if device == "cpu":
        start = time.perf_counter()
        for _ in range(repeats):
            call()
        return (time.perf_counter() - start) / repeats
    before, after = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    before.record()
    for _ in range(repeats):
        call()
    after.record()
    after.synchronize()
    return before.elapsed_time(after) / 1e3 / repeats


def captured(calls: Iterable[Call], device: str) -> Work:
    """All calls in one CUDA graph: no Python, no launches. On a CPU they are just called."""
    calls = list(calls)

    def one_by_one() -> None:
        for call in calls:
            call()

    if device == "cpu":
        return Work(one_by_one, len(calls))
    warm_up = torch.cuda.Stream()
    warm_up.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(warm_up):
        for _ in range(3):
            one_by_one()
    torch.cuda.current_stream().wait_stream(warm_up)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        one_by_one()
    return Work(graph.replay, len(calls), in_graph=True, keeps=calls)


def in_turns(work: dict[str, Work], device: str, budget: float, least: int = 5) -> dict[str, Spread]:
    """Measures all in turn for `budget` seconds, and each at least `least` times. Calls must be warm."""
    repeats = {}
    for name, job in work.items():
        once = seconds(job.call, device)
        repeats[name] = min(1000, math.ceil(TURN / max(once, 1e-6)))
    times: dict[str, list[float]] = {name: [] for name in work}
    end, turns = time.perf_counter() + budget, 0
    while time.perf_counter() < end or turns < least:
        for name, job in work.items():
            times[name].append(seconds(job.call, device, repeats[name]) / job.steps)
        turns += 1
    return {name: Spread.of(values, work[name].in_graph) for name, values in times.items()}
