"""From the bytes of an image file to a square uint8 array."""

import io

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from car_ext.errors import InputError

# Those of torchvision's ImageFolder, and .jfif, under which Windows saves JPEG.
EXTENSIONS = frozenset({".jpg", ".jpeg", ".jfif", ".png", ".bmp", ".webp", ".ppm", ".pgm", ".tif", ".tiff"})
# Pillow knows formats that start other programs (EPS runs Ghostscript); only these are ever tried.
FORMATS = ("JPEG", "PNG", "BMP", "WEBP", "PPM", "TIFF")


def decode(data: bytes, image_size: int, path: str) -> np.ndarray:
    """An image file as (image_size, image_size, 3) uint8 RGB.

    The EXIF orientation is applied, transparency is laid over white and 16-bit grey is scaled to 8 bits.

    Args:
        data: the whole file.
        image_size: pixels; the shorter side is resized to it and the centre square is kept.
        path: names the file in the error message.

    Raises:
        InputError: the bytes are no intact image of a known format, or decode to an unreasonable size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return np.array(square(_rgb(ImageOps.exif_transpose(image)), image_size))
    except Exception as error:  # a corrupt file makes Pillow raise almost anything
        raise _undecodable(path, error) from error


def shorter_side(data: bytes, path: str) -> int:
    """Pixels of the shorter side of an image file, read from its header.

    Raises:
        InputError: as `decode`.
    """
    try:
        with Image.open(io.BytesIO(data), formats=FORMATS) as image:
            return min(image.size)
    except Exception as error:
        raise _undecodable(path, error) from error


def _undecodable(path: str, error: Exception) -> InputError:
    reason = "no known image format" if isinstance(error, UnidentifiedImageError) else error
    return InputError(f"image {path!r} cannot be decoded ({reason}): replace or remove it")


def square(image: Image.Image, image_size: int) -> Image.Image:
    """The centre square of an image, resized (bicubic) to image_size pixels a side."""
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    box = (left, top, left + side, top + side)
    if side == image_size:
        return image.crop(box)
    # Resizing only the box keeps a 1 x 50000 image from growing into gigabytes before its crop.
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC, box=box)


def _rgb(image: Image.Image) -> Image.Image:
    if image.mode == "RGB":
        return image
    if image.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion clips it at 255
        image = Image.fromarray((np.clip(np.asarray(image), 0, 65535) // 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("RGB")
