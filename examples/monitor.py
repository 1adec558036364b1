"""Watch a deployed model: score a folder of pictures in batches and append one JSON line about them to a log.

    python examples/monitor.py runs/NAME/model.onnx incoming/ --log monitor.jsonl

Where the folder has a sub-folder a class, as a test set has, the line holds accuracies as well. Needs predict.py beside
the model, onnxruntime, numpy and pillow; neither torch nor car_ext. To see the log, where car_ext is installed:

    python -m car_ext monitor monitor.jsonl
"""

import argparse
import datetime
import json
import sys
from collections import Counter
from pathlib import Path

import numpy as np

ENDINGS = {".jpg", ".jpeg", ".png", ".bmp", ".webp", ".ppm", ".tif", ".tiff"}
BATCH_SIZE = 32


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path, metavar="MODEL.onnx")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--log", type=Path, default=Path("monitor.jsonl"), help="(%(default)s)")
    arguments = parser.parse_args()
    sys.path.insert(0, str(arguments.model.absolute().parent))
    import predict

    session, facts = predict.load(arguments.model)
    paths = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in ENDINGS)
    if not paths:
        sys.exit(f"error: no picture in {arguments.folder}")
    names, predicted, confidence = facts["class_names"], [], []
    for start in range(0, len(paths), BATCH_SIZE):
        images = np.stack([predict.read(path, facts) for path in paths[start : start + BATCH_SIZE]])
        probabilities = predict.probabilities(session, images)
        predicted += [names[label] for label in probabilities.argmax(axis=1)]
        confidence += probabilities.max(axis=1).tolist()
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": str(arguments.model),
        "images": len(paths),
        "class_counts": dict(zip(names, facts["class_counts"], strict=True)),  # of training
        "predicted": dict.fromkeys(names, 0) | Counter(predicted),
        "mean_confidence": float(np.mean(confidence)),
    }
    true = [path.relative_to(arguments.folder).parts[0] for path in paths]
    if set(true) <= set(names):
        images, correct = Counter(true), Counter(t for t, p in zip(true, predicted, strict=True) if t == p)
        accuracies = {name: correct[name] / images[name] for name in sorted(images)}
        worst = min(accuracies, key=accuracies.get)
        line |= {
            "true": images,
            "correct": correct,
            "overall_accuracy": correct.total() / len(paths),
            "per_class_accuracy": accuracies,
            "worst_class": worst,
            "worst_class_accuracy": accuracies[worst],
        }
    before = arguments.log.read_bytes() if arguments.log.exists() else b""
    with arguments.log.open("a", encoding="utf-8") as log:
        if before and not before.endswith(b"\n"):  # a line that was interrupted must not take this one with it
            log.write("\n")
        log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
