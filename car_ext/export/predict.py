"""python predict.py MODEL.onnx IMAGE ...: what an exported car_ext model sees. Needs onnxruntime, numpy, pillow."""

import json
import sys

import numpy as np
import onnxruntime
from PIL import Image, ImageOps


def load(path, providers=("CPUExecutionProvider",)):
    """The session and the description that the file carries."""
    session = onnxruntime.InferenceSession(path, providers=list(providers))
    facts = session.get_modelmeta().custom_metadata_map
    return session, {key: json.loads(value) for key, value in facts.items()}


def read(path, facts):
    """A picture as the network was trained and tested on it: (side, side, C) uint8."""
    image = ImageOps.exif_transpose(Image.open(path))
    if image.mode.startswith("I"):  # 16-bit grey
        image = Image.fromarray((np.asarray(image).clip(0, 65535) // 257).astype(np.uint8))
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB" if facts["channels"] == 3 else "L")
    side, stored, kept = min(image.size), facts["stored_size"], facts["image_size"]
    left, top, edge = (image.width - side) // 2, (image.height - side) // 2, (stored - kept) // 2
    image = image.resize((stored, stored), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    return np.asarray(image.crop((edge, edge, edge + kept, edge + kept))).reshape(kept, kept, -1)


def probabilities(session, images):
    """(N, side, side, C) uint8 to (N, K) softmax of the logits."""
    (logits,) = session.run(["logits"], {"images": images})
    exponentials = np.exp(logits - logits.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


if __name__ == "__main__":
    session, facts = load(sys.argv[1])
    for path in sys.argv[2:]:
        (row,) = probabilities(session, read(path, facts)[None])
        print(path, *(f"{facts['class_names'][k]} {100 * row[k]:.1f}%" for k in np.argsort(-row)[:3]), sep="\t")
