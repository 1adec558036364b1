"""What becomes of the samples of a file, and that what is deployed reads them in the same way."""

import pickle
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from deployed import exported_predict, noise
from hypothesis import example, given, settings
from hypothesis import strategies as st
from image_files import exif, png, saved, tiff
from PIL import Image, ImageFile

from car_ext.datasets import picture
from car_ext.datasets.decode import decode
from car_ext.datasets.lazy import LazyImages
from car_ext.datasets.tree import FolderTree
from car_ext.errors import InputError

TURN = (0x0112, 3, b"\x06\0\0\0")  # clockwise by a quarter


@pytest.mark.parametrize("bits", [1, 2, 4, 8, 16])
def test_the_grey_that_a_png_declares_transparent_is_white(bits):
    largest = 2**bits - 1
    samples = np.array([[0, 1, largest, 1]] * 4)
    plain, keyed = (decode(png(samples, bits, key), 4, "x") for key in (None, 0))
    assert plain[0, 0, 0] == 0
    assert (keyed[:, 0] == 255).all()
    np.testing.assert_array_equal(keyed[:, 1:], plain[:, 1:])
    other = decode(png(samples, bits, 1), 4, "x")
    assert (other[:, [1, 3]] == 255).all()
    assert (other[:, 0] == 0).all()


@pytest.mark.parametrize("bits", [8, 16])
def test_the_colour_that_a_png_declares_transparent_is_white(bits):
    scale = 1 if bits == 8 else 257
    samples = np.array([[[10, 20, 30], [10, 20, 31], [0, 0, 0], [10, 20, 30]]] * 4) * scale
    keyed = decode(png(samples, bits, np.array([10, 20, 30]) * scale), 4, "x")
    assert keyed[0].tolist() == [[255] * 3, [10, 20, 31], [0, 0, 0], [255] * 3]


def test_a_turned_picture_keeps_its_transparent_colour():
    image = Image.fromarray(np.array([[[1, 2, 3], [9, 9, 9]]] * 2, np.uint8))
    upright = Image.Exif()
    upright[0x0112] = 6
    turned = decode(saved(image, "PNG", transparency=(1, 2, 3), exif=upright), 2, "x")
    assert turned[..., 0].tolist() == [[255, 255], [9, 9]]


def test_12_bits_use_the_whole_range():
    data = tiff(bytes([0xFF, 0xF0, 0x00, 0x80, 0x08, 0x00]), 2, 2, 12)  # 4095, 0 and 2048, 2048
    assert decode(data, 2, "x")[..., 0].tolist() == [[255, 0], [127, 127]]


@pytest.mark.parametrize("bits", [8, 16])
def test_zero_may_be_white(bits):
    samples = np.array([[0, 2**bits - 1]], "<u2" if bits == 16 else np.uint8).tobytes()
    upright, inverted = (decode(tiff(2 * samples, 2, 2, bits, white), 2, "x")[..., 0] for white in (False, True))
    assert upright.tolist() == [[0, 255]] * 2
    assert inverted.tolist() == [[255, 0]] * 2


@pytest.mark.parametrize("bits", [8, 16])
def test_signed_samples_are_refused(bits):
    with pytest.raises(InputError, match="signed pixels have no known range"):
        decode(tiff(bytes(bits // 2), 2, 2, bits, kind=2), 2, "x")


def test_16_bits_are_read_alike_from_every_format():
    samples = noise(0, 65536, (5, 5), np.uint16)
    image = Image.fromarray(samples)
    expected = np.repeat((samples // 257).astype(np.uint8)[..., None], 3, axis=2)
    big = Image.frombytes("I;16B", (5, 5), samples.astype(">u2").tobytes())
    for data in (saved(image, "PNG"), saved(image, "TIFF"), saved(image, "PPM"), saved(big, "TIFF")):
        np.testing.assert_array_equal(decode(data, 5, "x"), expected)


@pytest.mark.parametrize(
    ("mode", "words"), [("I", "32-bit and signed pixels have no known range"), ("F", "floating-point pixels have no")]
)
def test_a_range_that_cannot_be_known_is_refused(mode, words):
    with pytest.raises(InputError, match=words):
        decode(saved(Image.new(mode, (2, 2)), "TIFF"), 2, "x")


@pytest.mark.parametrize(
    "malformed",
    [(0x010F, 5, b"\x05\0\0\0"), (0x011A, 2, b"ab\0\0"), (0xA005, 1, b"\x05\0\0\0"), (0xA005, 7, b"\x05\0\0\0")],
    ids=["maker", "resolution", "pointer", "opaque pointer"],
)
def test_a_malformed_tag_beside_a_good_orientation_does_no_harm(malformed):
    image = Image.fromarray(np.array([[0, 255], [0, 255]], np.uint8))
    upright = decode(saved(image, "PNG", exif=exif(TURN, malformed)), 2, "x")
    assert upright[..., 0].tolist() == [[0, 0], [255, 255]]


def test_exif_that_is_none_is_no_orientation():
    image = Image.fromarray(noise())
    plain = decode(saved(image, "PNG"), 6, "x")
    np.testing.assert_array_equal(decode(saved(image, "PNG", exif=b"Exif\0\0no tags at all"), 6, "x"), plain)


def test_a_refusal_is_one_short_sentence_wherever_it_is_met(tmp_path):
    data = saved(Image.fromarray(noise(shape=(64, 64, 3))), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(data[: len(data) // 2])
    images = LazyImages(FolderTree(tmp_path), ["cut.jpg"], 8)
    with pytest.raises(InputError, match="truncated") as here:
        images[0]
    with ThreadPoolExecutor(1) as pool, pytest.raises(InputError) as in_a_thread:
        pool.submit(images.__getitem__, 0).result()
    sent = pickle.loads(pickle.dumps(here.value))
    sentence = str(here.value)
    assert type(sent) is InputError
    assert str(sent) == str(in_a_thread.value) == sentence
    assert "cut.jpg" in sentence
    assert sentence.endswith("replace or remove it; car-ext data lists all such files")
    assert len(sentence) < 200 + len(str(tmp_path))
    assert here.value.__cause__ is None  # a worker would send its text as well
    assert here.value.__suppress_context__


def test_a_long_reason_is_cut(monkeypatch):
    def fail(*_, **__):
        raise OSError("no\n" * 5000)

    monkeypatch.setattr(Image, "open", fail)
    with pytest.raises(InputError) as error:
        decode(b"", 2, "x")
    assert len(str(error.value)) < 300
    assert "\n" not in str(error.value)


MODES = ("1", "L", "LA", "P", "PA", "RGB", "RGBA", "I;16", "I", "F", "CMYK", "YCbCr", "LAB")
FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")


def drawn(mode, width, height, random):
    """A picture of random pixels in a mode."""
    if mode in ("I;16", "I", "F"):
        kind = {"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]
        return Image.fromarray(random.integers(0, 65536, (height, width)).astype(kind))
    if mode == "LAB":
        return Image.frombytes("LAB", (width, height), random.bytes(3 * width * height))
    coloured = Image.fromarray(random.integers(0, 256, (height, width, 4), dtype=np.uint8))
    if mode in ("P", "PA"):
        return coloured.convert("RGB").quantize(4).convert(mode)
    return coloured.convert(mode) if mode in ("LA", "RGBA") else coloured.convert("RGB").convert(mode)


@st.composite
def files(draw):
    """Image files: of every mode, format and orientation, with transparency or without, whole, cut or damaged."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    image = drawn(draw(st.sampled_from(MODES)), draw(st.integers(1, 9)), draw(st.integers(1, 9)), random)
    options = {}
    if turn := draw(st.integers(0, 9)):
        malformed = draw(st.sampled_from([(), [(0x011A, 2, b"ab\0\0")]]))
        options["exif"] = exif((0x0112, 3, bytes([turn, 0, 0, 0])), *malformed)
    if draw(st.booleans()) and image.mode in ("P", "L", "1", "I;16", "RGB"):
        first = image.getpixel((0, 0))
        options["transparency"] = draw(st.sampled_from([first, b"\0\x80\xff"])) if image.mode == "P" else first
    try:
        data = saved(image, draw(st.sampled_from(FORMATS)), **options)
    except (OSError, ValueError, KeyError, TypeError):  # not every format has every mode
        data = random.bytes(draw(st.integers(0, 40)))
    match draw(st.sampled_from(["whole", "whole", "cut", "damaged"])):
        case "cut":
            data = data[: draw(st.integers(0, len(data)))]
        case "damaged" if data:
            place = draw(st.integers(0, len(data) - 1))
            data = data[:place] + bytes([data[place] ^ draw(st.integers(1, 255))]) + data[place + 1 :]
    return data


@pytest.fixture(scope="module")
def predict(tmp_path_factory):
    return exported_predict(tmp_path_factory.mktemp("exported"))


def outcome(refusal, read, *arguments):
    """Pixels, or the sentence that refuses them."""
    try:
        return read(*arguments)
    except refusal as sentence:
        return str(sentence)


@given(data=files(), side=st.integers(1, 12))
@example(data=png(np.array([[[10, 20, 30], [9, 9, 9]]] * 2), 8, [10, 20, 30]), side=2)
@example(data=saved(Image.new("F", (2, 2), 0.5), "TIFF"), side=2)
@example(data=saved(Image.new("L", (2, 2)), "GIF"), side=2)  # as `0.jpg`: endings are not asked
@settings(deadline=None, max_examples=300)
def test_what_is_deployed_reads_what_was_trained_on(predict, tmp_path_factory, data, side):
    path = tmp_path_factory.getbasetemp() / "0.jpg"
    path.write_bytes(data)
    facts = {"channels": 3, "stored_size": side, "image_size": side}
    expected = outcome(InputError, decode, data, side, str(path))
    found = outcome(predict.Undecodable, predict.read, path, facts)
    if isinstance(expected, str):
        assert found == expected
    else:
        assert expected.shape == (side, side, 3)
        np.testing.assert_array_equal(found, expected)


def test_grey_models_are_given_the_grey_of_the_same_pixels(predict, tmp_path):
    path = tmp_path / "grey.png"
    path.write_bytes(saved(Image.fromarray(noise(shape=(6, 6))), "PNG"))
    grey = predict.read(path, {"channels": 1, "stored_size": 4, "image_size": 4})
    np.testing.assert_array_equal(grey[..., 0], decode(path.read_bytes(), 4, "x")[..., 0])


def scene(width, height):
    """A picture with edges and slopes in every direction."""
    y, x = np.mgrid[:height, :width].astype(float)
    waves = [np.sin(x / 23) + np.cos(y / 31), (x + y) % 97 / 48 - 1, np.where((x // 40 + y // 40) % 2, 0.8, -0.8)]
    return Image.fromarray((np.stack(waves, 2) * 60 + 128).astype(np.uint8))


JPEGS = {
    "plain": {},
    "progressive": {"progressive": True},
    "grey": {"mode": "L"},
    "CMYK": {"mode": "CMYK"},
    "turned": {"exif": exif(TURN)},
}


@pytest.mark.parametrize("kind", JPEGS)
def test_large_jpegs_are_decoded_at_a_fraction_with_nearly_the_same_pixels(kind, monkeypatch):
    options = dict(JPEGS[kind])
    image = scene(1000, 700).convert(options.pop("mode", "RGB"))
    data = saved(image, "JPEG", quality=95, **options)
    sizes = []
    load = ImageFile.ImageFile.load
    monkeypatch.setattr(ImageFile.ImageFile, "load", lambda self: (load(self), sizes.append(self.size))[0])
    small = decode(data, 64, "x.jpg").astype(int)
    assert sizes[0] == (250, 175)  # an eighth would be less than twice 64
    monkeypatch.setattr(picture, "DRAFT", 1000)
    whole = decode(data, 64, "x.jpg").astype(int)
    assert sizes[-1] == (1000, 700)
    assert small.shape == (64, 64, 3)
    if kind == "turned":
        upright = decode(saved(image, "JPEG", quality=95), 64, "x.jpg")
        assert np.abs(small - np.rot90(upright, -1).astype(int)).mean() < 6
    assert np.abs(small - whole).mean() < 2
    assert decode(data, 350, "x.jpg").shape == (350, 350, 3)
