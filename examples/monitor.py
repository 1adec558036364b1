"""Watch a deployed model: score a folder of pictures in batches and append one JSON line about them to a log.

    python examples/monitor.py runs/NAME/model.onnx incoming/ --log monitor.jsonl --rows latest.csv

Pictures in a sub-folder that is called like a class, as in a test set, are labelled: the line holds accuracies of these
as well. Those that cannot be read are counted, and the others scored. Needs predict.py beside the model, onnxruntime,
numpy and pillow; neither torch nor car_ext. To see the log, where car_ext is installed:

    python -m car_ext monitor monitor.jsonl
"""

import argparse
import csv
import datetime
import json
import sys
import unicodedata
from collections import Counter
from pathlib import Path

import numpy as np

BATCH_SIZE = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--log", type=Path, default=Path("monitor.jsonl"), help="(%(default)s)")
    parser.add_argument(
        "--rows", type=Path, metavar="FILE.csv", help="write file, true, predicted and confidence of each picture"
    )
    arguments = parser.parse_args()
    for file in filter(None, (arguments.log, arguments.rows)):
        if not file.absolute().parent.is_dir():
            refuse(f"{str(file)!r} cannot be written: its folder does not exist")
    predict = predict_beside(arguments.model)
    try:
        session, facts = predict.load(arguments.model)
        paths = predict.pictures(arguments.folder)
    except ValueError as error:
        refuse(error)
    names = facts["class_names"]
    class_counts = dict(zip(names, facts["class_counts"], strict=True))  # of training
    seen = score(predict, session, facts, paths)
    if not seen:
        refuse(f"none of the {len(paths)} pictures in {str(arguments.folder)!r} could be read")
    true = {path: label_of(path, arguments.folder, names) for path in paths}
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": str(arguments.model),
        "images": len(seen),
        "undecodable": len(paths) - len(seen),
        "class_counts": class_counts,
        "predicted": dict.fromkeys(names, 0) | Counter(name for name, _ in seen.values()),
        "mean_confidence": float(np.mean([confidence for _, confidence in seen.values()])),
        **accuracies({path: (true[path], name) for path, (name, _) in seen.items()}, class_counts),
    }
    if arguments.rows:
        with arguments.rows.open("w", encoding="utf-8", newline="") as file:
            rows = csv.writer(file)
            rows.writerow(["file", "true", "predicted", "confidence"])
            rows.writerows([path, true[path], *seen.get(path, ("", ""))] for path in paths)
    append(arguments.log, line)


def predict_beside(model):
    """The module that was exported with a model."""
    sys.path.insert(0, str(model.absolute().parent))
    try:
        import predict
    except ImportError as error:
        refuse(f"predict.py beside {str(model)!r} cannot be imported ({error}): export the model again, or install it")
    if not hasattr(predict, "readable"):
        refuse(f"{predict.__file__} is of an older version: export the model again")
    return predict


def score(predict, session, facts, paths):
    """Of each picture that can be read: path to predicted class and its probability."""
    seen, batch = {}, {}
    for number, (path, pixels) in enumerate(predict.readable(paths, facts), start=1):
        batch[path] = pixels
        if number % BATCH_SIZE == 0:
            seen |= classified(predict, session, facts, batch)
            batch = {}
    return seen | classified(predict, session, facts, batch) if batch else seen


def classified(predict, session, facts, batch):
    probabilities = predict.probabilities(session, np.stack(list(batch.values())))
    names = [facts["class_names"][label] for label in probabilities.argmax(axis=1)]
    return dict(zip(batch, zip(names, probabilities.max(axis=1).tolist(), strict=True), strict=True))


def label_of(path, folder, names):
    """The class that a picture's sub-folder names, in composed or decomposed letters; "" where it names none."""
    first, *_ = path.relative_to(folder).parent.parts or [""]
    return {composed(name): name for name in names}.get(composed(first), "")


def composed(name):
    return unicodedata.normalize("NFC", name)


def accuracies(pairs, class_counts):
    """What true and predicted classes of pictures tell of those that have a true one."""
    labelled = [(true, predicted) for true, predicted in pairs.values() if true]
    if not labelled:
        return {}
    images, correct = Counter(true for true, _ in labelled), Counter(true for true, name in labelled if true == name)
    of_class = {name: correct[name] / images[name] for name in sorted(images)}
    worst = min(of_class, key=lambda name: (of_class[name], class_counts[name], name))  # as the report names it
    if unlabelled := len(pairs) - len(labelled):
        print(f"{unlabelled} of {len(pairs)} pictures are in no folder of a class, so unlabelled", file=sys.stderr)
    return {
        "true": images,
        "correct": correct,
        "unlabelled": unlabelled,
        "overall_accuracy": correct.total() / len(labelled),
        "per_class_accuracy": of_class,
        "worst_class": worst,
        "worst_class_accuracy": of_class[worst],
    }


def append(log, line):
    before = log.read_bytes() if log.exists() else b""
    with log.open("a", encoding="utf-8") as file:
        if before and not before.endswith(b"\n"):  # a line that was interrupted must not take this one with it
            file.write("\n")
        file.write(json.dumps(line) + "\n")


def refuse(sentence):
    print(f"error: {sentence}", file=sys.stderr)
    sys.exit(2)


if __name__ == "__main__":
    main()
