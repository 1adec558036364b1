#!/usr/bin/env python
"""What bfloat16 costs in accuracy and saves in time: the same short training in both precisions, over seeds.

    python benchmarks/precision.py --data cifar10.zip --imbalance-ratio 100 --write benchmarks/results

The two take turns, seed by seed. Accuracies are those of the test images at the end, in per cent; the difference is
that of the same seed, its mean with its standard error. Times are those of the training steps, and mean little on a
machine that others use. A CPU without AVX512-BF16 or AMX computes no bfloat16 here.
"""

import argparse
import datetime
import json
import math
import statistics
import tempfile
from pathlib import Path
from typing import Any

import torch

from car_ext.config.config import Config
from car_ext.machine.device import cpu_gains_by_bf16
from car_ext.training.train import train

PRECISIONS = ("none", "bf16")
SCORES = {"overall": "overall_accuracy", "balanced": "balanced_accuracy", "worst class": "worst_class_accuracy"}


def trained(options: argparse.Namespace, seed: int, amp: str) -> dict[str, float]:
    """Scores and images a second of one run."""
    with tempfile.TemporaryDirectory() as folder:
        config = Config(
            data=options.data,
            imbalance_ratio=options.imbalance_ratio,
            img_size=options.img_size,
            model=options.model,
            regularizer=options.regularizer,
            optimizer="sgd",
            lr=0.1,
            weight_decay=2e-4,
            batch_size=options.batch_size,
            epochs=options.epochs,
            warmup_epochs=min(1.0, options.epochs / 5),
            seed=seed,
            amp=amp,
            device=options.device,
            out=f"{folder}/run",
        )
        summary = train(config, progress=False)
        lines = (config.run_dir / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    speed = statistics.median(json.loads(line)["images_per_second"] for line in lines)
    return {name: 100 * summary[key] for name, key in SCORES.items()} | {"images/s": speed}


def table(found: dict[str, list[dict[str, float]]]) -> list[str]:
    """A row for each score: both precisions, and bf16 less float32."""
    lines = ["| | float32 | bf16 | difference, or ratio |", "| --- | ---: | ---: | ---: |"]
    for name in (*SCORES, "images/s"):
        full, half = ([run[name] for run in found[amp]] for amp in PRECISIONS)
        cells = [f"{statistics.mean(values):.1f}" for values in (full, half)]
        if name == "images/s":
            cells.append(f"{statistics.median(b / a for a, b in zip(full, half, strict=True)):.2f}")
        else:
            moved = [b - a for a, b in zip(full, half, strict=True)]
            error = f" ± {statistics.stdev(moved) / math.sqrt(len(moved)):.1f}" if len(moved) > 1 else ""
            cells.append(f"{statistics.mean(moved):+.1f}{error}")
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits", help="as --data of a training (%(default)s)")
    parser.add_argument("--imbalance-ratio", type=float)
    parser.add_argument("--img-size", type=int)
    parser.add_argument("--model", default="cifar_resnet32")
    parser.add_argument("--regularizer", default="car")
    parser.add_argument("--batch-size", type=int, default=128)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--write", type=Path, metavar="FOLDER", help="also write table and numbers here, by date")
    options = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {amp: [] for amp in PRECISIONS}
    for seed in range(options.seeds):
        for amp in PRECISIONS:
            found[amp].append(trained(options, seed, amp))
            print(f"seed {seed}, {amp}: {found[amp][-1]}", flush=True)
    head = (
        f"{datetime.date.today()}, torch {torch.__version__}, {options.device}, {torch.get_num_threads()} threads, "
        f"{torch.backends.cpu.get_cpu_capability()}, bfloat16 {'' if cpu_gains_by_bf16() else 'not '}taken for faster; "
        f"{options.model}, {options.data}, {options.epochs} epochs, {options.seeds} seeds"
    )
    lines = [head, "", *table(found)]
    print(*lines, sep="\n")
    if options.write:
        stem = options.write / f"precision-{datetime.date.today()}"
        stem.with_suffix(".md").write_text("\n".join(lines) + "\n", encoding="utf-8")
        stem.with_suffix(".json").write_text(json.dumps({"head": head, **found}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
