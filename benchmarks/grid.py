"""A small grid of car_step calls against the float64 oracle: what compute-sanitizer watches."""

import itertools
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "helpers"))

import torch
from cases import DTYPES, Case, Options, assert_matches_oracle, tolerance_of

from car_ext.ops import operators as ops

# Few classes, where each block iterates alone, and many; rows by warp and by block; dense prediction.
SHAPES = [(1, 2, ()), (70, 5, ()), (4, 100, (3, 2)), (40, 129, ()), (600, 140, ()), (9, 400, ())]
FORMS = [{}, {"hold_absent": True, "debias": True, "temperature": 0.7}]
STREAMED = (torch.float64, (8, 1950, ()), {})  # too large for the chip, and slow to watch: once, at the end


def run(device: str) -> int:
    """Calls made; an AssertionError where one is wrong."""
    grid = [*itertools.product(DTYPES, SHAPES, FORMS), *([STREAMED] if device != "cpu" else [])]
    for dtype, (samples, classes, spatial), form in grid:
        print(f"{dtype}, {samples} x {classes} {spatial or ''} {form or ''}", flush=True)
        inputs = {"weighted": True, "ignored": samples > 1, "spatial": spatial, "device": device}
        case = Case(samples, classes, dtype, options=Options(tolerance=tolerance_of(dtype), **form), **inputs)
        assert_matches_oracle(case, ops.car_step)
    return len(grid)
