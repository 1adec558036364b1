"""The test images that a run got wrong, as pictures of a page."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from car_ext.report.runs import Run


class Picture(NamedTuple):
    source: str  # data: URL
    describes: str
    labels: str
    note: str
    width: int
    height: int


def pictures(run: Run) -> list[Picture]:
    """The images of findings.examples, in their order."""
    shown = []
    for example, pixels in zip(run.found.examples, run.found.thumbnails, strict=True):
        true, predicted = (run.class_names[example[key]] for key in ("true", "predicted"))
        shown.append(
            Picture(
                png(pixels),
                f"test image {example['image']}: {true}, taken for {predicted}",
                f"{true} \N{RIGHTWARDS ARROW} {predicted}",
                f"{100 * example['confidence']:.0f} %",
                pixels.shape[1],
                pixels.shape[0],
            )
        )
    return shown


def png(pixels: np.ndarray) -> str:
    """An image (H, W, C) uint8 as a data: URL."""
    content = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
