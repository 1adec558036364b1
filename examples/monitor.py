"""Watch a deployed model: score a folder of pictures in batches and append one JSON line about them to a log.

    python examples/monitor.py runs/NAME/model.onnx incoming/ --log monitor.jsonl

Where the folder has a sub-folder a class, as a test set has, the line holds the worst class as well. Needs predict.py
beside the model, onnxruntime, numpy and pillow; neither torch nor car_ext.
"""

import argparse
import datetime
import json
import sys
from collections import Counter, defaultdict
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
    predicted, confidence, hits = [], [], defaultdict(list)
    for start in range(0, len(paths), BATCH_SIZE):
        images = np.stack([predict.read(path, facts) for path in paths[start : start + BATCH_SIZE]])
        probabilities = predict.probabilities(session, images)
        predicted += [facts["class_names"][label] for label in probabilities.argmax(axis=1)]
        confidence += probabilities.max(axis=1).tolist()
    line = {
        "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "model": str(arguments.model),
        "images": len(paths),
        "predicted": dict.fromkeys(facts["class_names"], 0) | Counter(predicted),
        "mean_confidence": float(np.mean(confidence)),
    }
    true = [path.relative_to(arguments.folder).parts[0] for path in paths]
    if set(true) <= set(facts["class_names"]):
        for name, label in zip(true, predicted, strict=True):
            hits[name].append(name == label)
        accuracy, worst = min((float(np.mean(hits[name])), name) for name in hits)
        line |= {"worst_class": worst, "worst_class_accuracy": accuracy}
    with arguments.log.open("a", encoding="utf-8") as log:
        log.write(json.dumps(line) + "\n")


if __name__ == "__main__":
    main()
