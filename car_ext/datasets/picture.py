"""From the bytes of an image file to a square of pixels, with numpy and Pillow alone.

Training decodes with this text, and an export writes the same text into `predict.py`: a deployed model sees the pixels
of training and refuses the same files in the same words.
"""

import io

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

EXTENSIONS = frozenset(
    {".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".pbm", ".pnm", ".tif", ".tiff"}
)
# Pillow knows formats that start other programs (EPS runs Ghostscript); only these are ever tried.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")
ORIENTATION = 0x0112  # the only tag of a picture's EXIF that is read; others may be damaged
TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
PHOTOMETRIC, WHITE_IS_ZERO = 262, 0  # tags of a TIFF and values of theirs
SAMPLE_FORMAT, SIGNED = 339, 2
DRAFT = 2  # a JPEG file is decoded in full size, or in 1/2, 1/4 or 1/8 of it with so many pixels for one that is kept
FLAT = 16  # levels of 256, more than what 12-bit samples in a 16-bit file leave


class Undecodable(ValueError):
    """No picture: the message is one sentence with the file, the cause and the fix."""


def decode(data: bytes, side: int, path: str, mode: str = "RGB") -> np.ndarray:
    """An image file as (side, side, 3) uint8; grey, (side, side), where `mode` is "L".

    The EXIF orientation is applied, transparency is laid over white and 16-bit grey is scaled to 8 bits. Large JPEG
    files are decoded at a fraction of their size, which their format allows for, with sides of at least twice `side`.

    Args:
        data: the whole file.
        side: pixels; the shorter side is resized to it and the centre square is kept.
        path: names the file in the message.
        mode: "RGB" or "L".

    Raises:
        Undecodable: the bytes are no intact image of a known format and range, or of an unreasonable size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            width = image.width
            image.draft(None, (DRAFT * side, DRAFT * side))  # does nothing to other formats
            flat, turn = on_white(image), turn_of(image)
            flat = flat if mode == "RGB" else flat.convert(mode)
            return np.array(square(flat if turn is None else flat.transpose(turn), side, round(width / image.width)))
    except Exception as error:  # a corrupt file makes Pillow raise almost anything
        raise undecodable(path, error) from None


def undecodable(path: str, error: Exception) -> Undecodable:
    """What to raise for an error of Pillow."""
    known = not isinstance(error, UnidentifiedImageError)
    reason = " ".join(str(error).split())[:200] or type(error).__name__ if known else "no known image format"
    return Undecodable(f"image {path!r} cannot be decoded ({reason}): replace or remove it")


def on_white(image: Image.Image) -> Image.Image:
    """An opened image as RGB, what is transparent in white.

    Raises:
        ValueError: the range of its samples is not known.
    """
    stored = raw_mode(image)  # loading forgets it
    image.load()
    key = image.info.get("transparency")
    tags = getattr(image, "tag_v2", {})  # of a TIFF
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if (image.mode == "I" and image.format == "TIFF") or SIGNED in np.atleast_1d(tags.get(SAMPLE_FORMAT, 1)):
        raise ValueError("32-bit and signed pixels have no known range")
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it at 255
        samples = np.asarray(image)
        grey = (samples * 255.0 // 4095 if stored == "I;12" else np.clip(samples, 0, 65535) // 257).astype(np.uint8)
        if tags.get(PHOTOMETRIC) == WHITE_IS_ZERO:  # which Pillow heeds up to 8 bits
            grey = 255 - grey
        grey[samples == key] = 255
        return Image.fromarray(grey).convert("RGB")
    if image.mode in ("1", "L", "RGB"):
        image = image if image.mode == "RGB" else image.convert("RGB")
        return image if key is None else without_colour(image, key, stored)
    if key is not None or image.mode in ("LA", "PA", "La", "RGBA", "RGBa"):
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")


def without_colour(image: Image.Image, key: int | tuple, stored: str) -> Image.Image:
    """RGB in which the one colour that a PNG file declares transparent is white; the key has the file's bits."""
    if stored.endswith(";16B"):  # of which Pillow keeps the upper eight
        colour = np.array(key) >> 8
    else:
        largest = {"1": 1, "L;2": 3, "L;4": 15}.get(stored, 255)
        colour = (np.array(key) & largest) * (255 // largest)
    pixels = np.array(image)
    pixels[(pixels == colour).all(axis=2)] = 255
    return Image.fromarray(pixels)


def raw_mode(image: Image.Image) -> str:
    """How the file of an opened image stores its samples, in Pillow's words: "RGB;16B"."""
    how = image.tile[0][3] if isinstance(image, ImageFile.ImageFile) and image.tile else ""
    return str(how[0] if isinstance(how, tuple) else how)


def turn_of(image: Image.Image) -> Image.Transpose | None:
    """What sets a loaded image upright; no metadata but its orientation are read, and none are written."""
    try:
        return TURNS.get(image.getexif().get(ORIENTATION, 1))
    except Exception:  # not even a table of tags: as a viewer shows it
        return None


def square(image: Image.Image, side: int, scale: int = 1) -> Image.Image:
    """The centre square of an image, resized (bicubic) to `side` pixels.

    Args:
        image: of which each pixel stands for `scale` x `scale` pixels of its file.
        side: pixels.
        scale: 1, or of a draft, in which the centre is found to the pixel of the file.
    """
    edge = min(image.size)
    left, top = ((length - edge) * scale // 2 / scale for length in image.size)
    box = (left, top, left + edge, top + edge)
    if edge == side:
        return image.crop(box)
    # Resizing only the box keeps a 1 x 50000 image from growing into gigabytes before its crop.
    return image.resize((side, side), Image.Resampling.BICUBIC, box=box)


def is_flat(pixels: np.ndarray) -> bool:
    """Whether an image holds nearly one value, as an empty one does and one whose samples use little of their range."""
    return int(pixels.max()) - int(pixels.min()) < FLAT


def flat_warning(path: str, pixels: np.ndarray, flat: int, images: int) -> str:
    """What to say of `flat` such images among some, of which `path` is the first."""
    return (
        f"{flat} of {images} images hold nearly one value, {path!r} for one, from {pixels.min()} to {pixels.max()} of "
        "255: check them, and that 16-bit files use all 16 bits"
    )
