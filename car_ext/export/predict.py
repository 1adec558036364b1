"""python predict.py MODEL.onnx PICTURE_OR_FOLDER ...: what an exported car_ext model sees in pictures.

Needs onnxruntime (1.16 or newer), numpy (1.24.2 or newer) and pillow (9.1 or newer), and no other file than the model.
Prints a line a picture, with the three most probable classes and, of a model that has them, the set of classes that
holds the true one as often as the export promised; pictures that cannot be read are named on stderr, and the others are
still seen.
"""

from __future__ import annotations  # for the Python of an older server

import json
import sys
from pathlib import Path

import numpy as np
import onnxruntime

from car_ext.datasets.picture import EXTENSIONS, Undecodable, decode, flat_warning, is_flat  # here in an export

USAGE = "usage: python predict.py MODEL.onnx PICTURE_OR_FOLDER ..."


def load(path, providers=("CPUExecutionProvider",)):
    """The session and the description that the file carries.

    Raises:
        ValueError: it is no such model, in one sentence.
    """
    if not Path(path).is_file():
        raise ValueError(f"there is no model file {str(path)!r}: check the path")
    try:
        session = onnxruntime.InferenceSession(str(path), providers=list(providers))
        facts = {k: json.loads(v) for k, v in session.get_modelmeta().custom_metadata_map.items()}
    except Exception as error:  # onnxruntime and json have many kinds
        reason = " ".join(str(error).split())[:200]
        raise ValueError(f"{str(path)!r} is no model that onnxruntime can load ({reason}): export it again") from None
    if lacking := {"class_names", "class_counts", "stored_size", "image_size", "channels"} - facts.keys():
        raise ValueError(f"model {str(path)!r} does not say {', '.join(sorted(lacking))}: export it with car_ext")
    return session, facts


def hidden(name):
    """Whether a file or folder is left out, as in training."""
    return name.startswith(".") or name == "__MACOSX"


def pictures(path):
    """A file, or the pictures in a folder and the folders below, sorted; hidden ones, such as `._0.png`, are left out.

    Raises:
        ValueError: there is none, in one sentence.
    """
    path = Path(path)
    if not path.is_dir():
        if not path.exists():
            raise ValueError(f"there is no file or folder {str(path)!r}: check the path")
        return [path]
    inside = sorted(file for file in path.rglob("*") if file.suffix.lower() in EXTENSIONS and not file.is_dir())
    found = [file for file in inside if not any(map(hidden, file.relative_to(path).parts))]
    if not found:
        raise ValueError(f"no picture ({', '.join(sorted(EXTENSIONS))}) in {str(path)!r}: check the folder")
    return found


def read(path, facts):
    """A picture as the network was trained and tested on it: (side, side, C) uint8.

    Raises:
        Undecodable: it cannot be read, in one sentence.
    """
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise Undecodable(f"file {str(path)!r} cannot be read: {error.strerror}") from None
    stored, kept = facts["stored_size"], facts["image_size"]
    pixels = decode(data, stored, str(path), "RGB" if facts["channels"] == 3 else "L")
    edge = (stored - kept) // 2
    return pixels[edge : edge + kept, edge : edge + kept].reshape(kept, kept, -1)


def readable(paths, facts):
    """A path and its pixels, of every picture that can be read. What is wrong with others is said on stderr."""
    unreadable, flat, first = 0, 0, ("", np.zeros(0, np.uint8))
    for path in paths:
        try:
            pixels = read(path, facts)
        except Undecodable as error:
            print(f"error: {error}", file=sys.stderr)
            unreadable += 1
            continue
        if is_flat(pixels):
            flat, first = flat + 1, first if flat else (str(path), pixels)
        yield path, pixels
    if unreadable:
        print(f"{unreadable} of {len(paths)} pictures could not be read", file=sys.stderr)
    if flat:
        print(f"warning: {flat_warning(*first, flat, len(paths) - unreadable)}", file=sys.stderr)


def probabilities(session, images):
    """(N, side, side, C) uint8 to (N, K) softmax of the logits."""
    (logits,) = session.run(["logits"], {"images": images})
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def prediction_set(row, facts):
    """The names of the classes that the true one is among, as often as the export promised, most probable first.

    None where the model has no such sets.
    """
    if "conformal" not in facts:
        return None
    order = np.argsort(-row)
    inside = 1 - row <= np.array(facts["conformal"]["thresholds"])
    return [facts["class_names"][k] for place, k in enumerate(order) if inside[k] or place == 0]


def main(arguments):
    """Prints what the model sees, and gives the exit code: 2 where that is nothing."""
    if arguments[:1] in (["-h"], ["--help"]):
        print(USAGE)
        return 0
    if len(arguments) < 2:
        print(USAGE, file=sys.stderr)
        return 2
    try:
        session, facts = load(arguments[0])
        files = [file for path in arguments[1:] for file in pictures(path)]
    except ValueError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    seen = 0
    for file, pixels in readable(files, facts):
        seen += 1
        (row,) = probabilities(session, pixels[None])
        columns = [f"{facts['class_names'][k]} {100 * row[k]:.1f}%" for k in np.argsort(-row)[:3]]
        names = prediction_set(row, facts)
        print(file, *columns, *([] if names is None else [f"{{{', '.join(names)}}}"]), sep="\t")
    return 0 if seen else 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
