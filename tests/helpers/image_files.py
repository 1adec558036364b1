"""Image files that Pillow does not write, or not on purpose."""

import io
import struct
import zlib

import numpy as np
from PIL import Image


def png(samples, bits: int, key=None) -> bytes:
    """A grey (H, W) or coloured (H, W, 3) PNG of some bits a sample, with one colour declared transparent."""
    samples = np.asarray(samples)
    height, width = samples.shape[:2]
    rows = samples.reshape(height, -1)
    if bits < 8:
        each = (rows[..., None] >> np.arange(bits)[::-1] & 1).reshape(height, -1)
        rows = np.packbits(each.astype(np.uint8), axis=1)
    rows = rows.astype(">u2" if bits == 16 else np.uint8)
    header = struct.pack(">IIBBBBB", width, height, bits, 2 if samples.ndim == 3 else 0, 0, 0, 0)
    chunks = [(b"IHDR", header)]
    if key is not None:
        chunks.append((b"tRNS", np.atleast_1d(key).astype(">u2").tobytes()))
    chunks += [(b"IDAT", zlib.compress(b"".join(b"\0" + row.tobytes() for row in rows))), (b"IEND", b"")]
    whole = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
    return b"\x89PNG\r\n\x1a\n" + b"".join(whole)


def tiff(samples: bytes, width: int, height: int, bits: int, zero_is_white: bool = False, kind: int = 1) -> bytes:
    """An uncompressed grey TIFF of some bits a sample, of kind 1 (unsigned) or 2 (signed)."""
    tags = [(256, width), (257, height), (258, bits), (259, 1), (262, int(not zero_is_white)), (273, 8), (277, 1)]
    tags += [(278, height), (279, len(samples)), (339, kind)]
    entries = [struct.pack("<HHII", tag, 3, 1, value) for tag, value in tags]
    directory = struct.pack("<H", len(entries)) + b"".join(entries) + bytes(4)
    return b"II*\0" + struct.pack("<I", 8 + len(samples)) + samples + directory


def exif(*entries: tuple[int, int, bytes]) -> bytes:
    """A table of tags as a JPEG file holds it, of entries (tag, type, four bytes)."""
    table = b"".join(struct.pack("<HHI", tag, kind, 1) + value for tag, kind, value in entries)
    return b"Exif\0\0II*\0" + struct.pack("<IH", 8, len(entries)) + table + bytes(4)


def saved(image: Image.Image, format: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, format, **options)
    return file.getvalue()
