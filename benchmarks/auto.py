"""How much of what frozen features hold `car-ext auto` takes: its regret against an honest oracle, beside fixed rules.

For each case (a folder or .zip, cut to an imbalance ratio where one is given) and seed the heads of `car-ext auto`
are tried on frozen features as it does, and every head, as it is and with each kind of offsets, is scored on the test
images, which the choice has not seen.

The *honest oracle* takes the head that is best on one half of the test images and is scored on the other half, both
ways round, over twenty splits: the best of many on all test images is lucky. *Regret* is its score less that of a
rule on the same halves; below 0 a rule is better than anyone who chose by half of the test images. *Promised* is
whether the score on the test images is within the interval that was told from the folds.

    python benchmarks/auto.py --pretrained weights.safetensors cifar10.zip:100 cifar10.zip:10 tiny100.zip --seeds 0 1 2

"""

import argparse
import dataclasses
import json
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from car_ext.automatic.auto import _Search
from car_ext.automatic.choice import PLAIN, Candidate
from car_ext.automatic.dependence import Dependence
from car_ext.automatic.folds import deal
from car_ext.automatic.goal import Goal
from car_ext.automatic.promise import promise
from car_ext.automatic.race import Entry, Raced, kinds
from car_ext.automatic.representation import EVERYTHING, Representation
from car_ext.config.config import Config
from car_ext.methods.offsets import minimax, soft_minimum
from car_ext.training.data import load_data

SPLITS = 20
RIVALS = {
    "balanced softmax": ("balanced softmax", PLAIN),
    "post-hoc tau 1": ("post-hoc tau 1", PLAIN),
    "geometric mean": ("geometric mean", PLAIN),
    "geometric mean, minimax": ("geometric mean", "minimax"),
    "logit-adjusted 1.25, soft minimum": ("logit-adjusted 1.25", "soft minimum"),
}


def main() -> None:
    """Tries, chooses, scores and prints."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="+", metavar="PATH[:RATIO]")
    parser.add_argument("--pretrained", required=True, metavar="FILE")
    parser.add_argument("--model", default="tf_efficientnet_lite0")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int)
    parser.add_argument("--work", type=Path, help="keeps features between calls")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch:
        for case in options.cases:
            for seed in options.seeds:
                rows.append(one(case, seed, options, options.work or Path(scratch)))
                print_row(rows[-1])
    print_means(rows)
    if options.json:
        options.json.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")


def one(case: str, seed: int, options: argparse.Namespace, work: Path) -> dict:
    """A case and a seed: regrets of the choice and of the fixed rules."""
    path, _, ratio = case.rpartition(":") if case.rpartition(":")[2].isdecimal() else (case, "", "")
    config = Config(
        data=path,
        imbalance_ratio=float(ratio) if ratio else None,
        model=options.model,
        pretrained=options.pretrained,
        threads=options.threads,
        out="unused",
    )
    kind = next(kind for kind in kinds(config, 32, 10_000) if not kind.trained)
    data = load_data(config.with_options(kind.options, "the features"))[0]
    searched = _Search(config, Goal(), work / case.replace("/", "-").replace(":", "-"), None, False, data)
    start = Representation(kind, config, np.zeros(0), searched._store, searched._clock)
    targets, classes = data.train.targets, data.num_classes
    fold = deal(targets, np.arange(len(targets)), seed)
    entry = Entry(start, 0, folds=np.unique(fold[fold >= 0]).tolist())
    raced = Raced([entry], data, fold, Dependence(np.arange(len(targets)), ""), [])
    features = start.of_fold(EVERYTHING)["features"]
    test = searched._store.piece("test", lambda: {"features": test_features(start)})["features"]
    labels = data.test.targets
    # Heads are fitted anew for every seed: the store would give those of the first.
    searched._config = dataclasses.replace(config, seed=seed)
    begun = time.perf_counter()
    candidates, finals = [], {}
    for recipe in searched._recipes(entry, raced):
        logits = searched._measuring(entry, raced, recipe)()
        candidates += [Candidate(name, values) for name, values in logits.items()]
        finals |= dict(searched._variants(recipe, {"features": features}, np.arange(len(targets)), raced))
    chooser = searched._chooser(entry, raced)
    choice = chooser.choose(candidates)
    seconds = time.perf_counter() - begun
    halves = np.random.default_rng(0).permuted(np.tile(np.arange(len(labels)), (SPLITS, 1)), axis=1) < len(labels) // 2
    goal = Goal()

    def scores(predictions: np.ndarray) -> np.ndarray:
        """(2 `SPLITS`,) of the halves."""
        return np.array(
            [goal.of(accuracies(predictions[one], labels[one], classes)) for half in halves for one in (half, ~half)]
        )

    held = np.flatnonzero(fold >= 0)
    every: dict[tuple[str, str], np.ndarray] = {}
    for candidate in (candidate.scaled() for candidate in candidates):
        plain = test @ finals[candidate.name].weight.T + finals[candidate.name].bias
        every[candidate.name, PLAIN] = scores(plain.argmax(axis=1))
        for how, fit in (("minimax", minimax), ("soft minimum", soft_minimum)):
            offsets = fit(candidate.logits, targets[held])
            every[candidate.name, how] = scores((candidate.factor * plain + offsets).argmax(axis=1))
    table = np.array([*every.values()])
    other = np.arange(table.shape[1]) ^ 1
    oracle = table[table.argmax(axis=0), other]
    ours = choice.head(finals)(test).argmax(axis=1)
    told = promise(choice.row.measured, np.bincount(labels, minlength=classes), goal)
    on_test = float(goal.of(accuracies(ours, labels, classes)))
    # The rule to beat: the best single row out of fold.
    single = next(row for row in choice.rows if (row.name, row.offsets) in every)
    regrets = {"auto": scores(ours), "best single row": every[single.name, single.offsets]}
    regrets |= {name: every[key] for name, key in RIVALS.items()}
    return {
        "case": Path(case).name,
        "seed": seed,
        "chosen": choice.name,
        "seconds": seconds,
        "worst10": on_test,
        "balanced": float(accuracies(ours, labels, classes).mean()),
        "promised": list(told),
        "kept": bool(told.low <= on_test <= told.high),
        "regrets": {name: float(100 * (oracle - score[other]).mean()) for name, score in regrets.items()},
    }


def test_features(start: Representation) -> np.ndarray:
    """(N, D) of the test images."""
    return start.job_of_everything(0).batches.test.dataset.split.images


def accuracies(predictions: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """Of the classes that have images."""
    images = np.bincount(labels, minlength=classes)
    right = np.bincount(labels[predictions == labels], minlength=classes)
    return right[images > 0] / images[images > 0]


def print_row(row: dict) -> None:
    regrets = ", ".join(f"{name} {value:.2f}" for name, value in row["regrets"].items())
    print(
        f"{row['case']} seed {row['seed']}: {100 * row['worst10']:.1f} / {100 * row['balanced']:.1f}, promised "
        f"{100 * row['promised'][1]:.1f} to {100 * row['promised'][2]:.1f}, {row['seconds']:.0f} s, {row['chosen']}; "
        f"regrets {regrets}",
        flush=True,
    )


def print_means(rows: list[dict]) -> None:
    """Means over cases and seeds as Markdown, the best rule first."""
    names = rows[0]["regrets"]
    print("\n| rule | mean regret | largest |\n| --- | ---: | ---: |")
    for name in sorted(names, key=lambda name: np.mean([row["regrets"][name] for row in rows])):
        values = [row["regrets"][name] for row in rows]
        print(f"| {name} | {np.mean(values):.2f} | {max(values):.2f} |")
    print(f"\npromises kept: {sum(row['kept'] for row in rows)} of {len(rows)}")


if __name__ == "__main__":
    sys.exit(main())
