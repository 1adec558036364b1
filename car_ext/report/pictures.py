"""The test images that a run got wrong, as pictures of a page."""

import base64
import io
from typing import NamedTuple

import numpy as np
from PIL import Image

from car_ext.report.runs import Run
from car_ext.text import nfc, printable


class Picture(NamedTuple):
    source: str  # data: URL
    describes: str
    labels: str
    note: str
    width: int
    height: int
    file: tuple[str, str, str] = ("", "", "")  # start, middle and end of its name, the middle for who has the room


ENDS = 8, 16  # characters of a file's name that are shown at its start and end


def pictures(run: Run) -> list[Picture]:
    """The images of findings.examples, in their order."""
    shown = []
    files = [printable(nfc(name)) for name in run.found.files] or [""] * len(run.found.examples)
    for example, pixels, file in zip(run.found.examples, run.found.thumbnails, files, strict=True):
        true, predicted = (run.class_names[example[key]] for key in ("true", "predicted"))
        shown.append(
            Picture(
                png(pixels),
                f"test image {file or example['image']}: {true}, taken for {predicted}",
                f"{true} \N{RIGHTWARDS ARROW} {predicted}",
                f"{100 * example['confidence']:.0f} %",
                pixels.shape[1],
                pixels.shape[0],
                _parted(file),
            )
        )
    return shown


def _parted(file: str) -> tuple[str, str, str]:
    """The parts of a file's name: start, middle, end; a name that is short is all start."""
    start, end = ENDS
    if len(file) <= start + end + 1:
        return file, "", ""
    return file[:start], file[start:-end], file[-end:]


def png(pixels: np.ndarray) -> str:
    """An image (H, W, C) uint8 as a data: URL."""
    content = io.BytesIO()
    Image.fromarray(pixels if pixels.shape[2] == 3 else pixels[:, :, 0]).save(content, "PNG", optimize=True)
    return f"data:image/png;base64,{base64.b64encode(content.getvalue()).decode()}"
