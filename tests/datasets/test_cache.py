"""Images that are decoded once: the same bits from a file, and never those of other files."""

import contextlib
import json
import multiprocessing
import os
import shutil
import signal
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pixels import agree

from car_ext.datasets import DataOptions, LazyImages, cache, cache_folder, identity, lazy, load
from car_ext.datasets.decoding import blocks, decode_all
from car_ext.datasets.mapped import MappedImages, mapped, write
from car_ext.datasets.reading import centres, stack
from car_ext.errors import InputError

TRAIN, TEST = 41, 9  # so that blocks have a rest


@pytest.fixture(autouse=True)
def _every_set_is_worth_a_file(monkeypatch):
    monkeypatch.setattr(cache, "WORTH", 0)
    monkeypatch.setattr(identity, "TICK", 0.02)


def picture(seed, side=12):
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8))


@pytest.fixture
def photos(tmp_path):
    """Uncompressed files, which all have the same size."""
    root = tmp_path / "photos"
    for split, number in (("train", TRAIN), ("test", TEST)):
        for name in ("ant", "bee"):
            (root / split / name).mkdir(parents=True)
        for i in range(number):
            picture(1000 * len(split) + i).save(root / split / ("ant", "bee")[i % 3 == 0] / f"{i:03}.bmp")
    return root


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "cache"


def cached(data, folder, **options):
    return load(str(data), options=DataOptions(cache_dir=folder), **options)


def every(split):
    return np.stack([split.images[i] for i in range(len(split))])


def check_as_decoded(data, folder, **options):
    """The data from a file, whose pixels are those that the files decode to one by one."""
    found, slow = cached(data, folder, **options), load(str(data), cache_bytes=0, **options)
    for part in ("train", "test"):
        assert isinstance(getattr(found, part).images, MappedImages)
        assert isinstance(getattr(slow, part).images, LazyImages)
        assert (every(getattr(found, part)) == every(getattr(slow, part))).all()
    assert (found.fingerprint, found.notes) == (slow.fingerprint, slow.notes)
    return found


@pytest.fixture
def decoded(monkeypatch):
    """Names of the files that are decoded, as they are."""
    names, decode = [], lazy.decode
    monkeypatch.setattr(lazy, "decode", lambda data, size, path: names.append(path) or decode(data, size, path))
    return names


def test_decoded_once(photos, folder, decoded, capsys):
    first = check_as_decoded(photos, folder)
    assert first.train.images.path.parent == folder
    assert "kept in" in capsys.readouterr().err
    decoded.clear()
    again = cached(photos, folder)
    assert len(decoded) == 2 * cache.TRIED  # of each split
    said = capsys.readouterr().err
    assert said.count("checksum verified") == 2
    assert "kept in" not in said
    assert (every(again.train) == every(first.train)).all()
    assert sorted(path.suffix for path in folder.iterdir() if path.name[0] != ".") == [".json", ".json", ".npy", ".npy"]


def test_any_reader_of_numpy_opens_the_file(photos, folder):
    images = cached(photos, folder).train.images
    assert (np.load(images.path, allow_pickle=False) == every(cached(photos, folder).train)).all()


@pytest.mark.parametrize("form", ["zip", "parquet", "list"])
def test_every_form_of_data(form, photos, folder, tmp_path):
    options = {}
    if form == "zip":
        data = tmp_path / "photos.zip"
        with zipfile.ZipFile(data, "w") as archive:
            for file in sorted(photos.rglob("*.bmp")):
                archive.write(file, file.relative_to(tmp_path))
    elif form == "parquet":
        pa = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet")
        data = tmp_path / "hub"
        data.mkdir()
        for split in ("train", "test"):
            files = sorted((photos / split).rglob("*.bmp"))
            table = {"image": [f.read_bytes() for f in files], "label": [f.parent.name for f in files]}
            pa.parquet.write_table(pa.table(table), data / f"{split}-0.parquet", row_group_size=7)
    else:
        data = tmp_path / "list.csv"
        rows = [(f.relative_to(photos), f.parent.name, f.parts[-3]) for f in sorted(photos.rglob("*.bmp"))]
        data.write_text("path,label,split\n" + "".join(f"{a},{b},{c}\n" for a, b, c in rows))
        options = {"data_root": photos}
    found = load(str(data), options=DataOptions(cache_dir=folder, **options))
    slow = load(str(data), options=DataOptions(**options), cache_bytes=0)
    assert isinstance(found.train.images, MappedImages)
    assert (every(found.train) == every(slow.train)).all()


def overwrite(photos, file, seed=7):
    """Other pixels in as many bytes; the time of modification is set back, as `cp -p` and `tar` do."""
    before = file.stat()
    picture(seed).save(file)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = file.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def swap_files(photos, file):
    other = file.with_name("040.bmp")
    file.rename(photos / "held")
    other.rename(file)
    (photos / "held").rename(other)


def swap_folders(photos, file):
    """Of one number of files with the same names, whose own stamps stay."""
    (photos / "train" / "ant").rename(photos.parent / "held")
    (photos / "train" / "bee").rename(photos / "train" / "ant")
    (photos.parent / "held").rename(photos / "train" / "bee")


def retarget(photos, file):
    target = photos / "train" / "ant" / "040.bmp"
    file.unlink()
    file.symlink_to(target)


@pytest.mark.parametrize("change", [overwrite, swap_files, swap_folders, retarget])
def test_a_stale_file_is_never_read(change, photos, folder):
    for split in ("train", "test"):  # every file of one time of modification
        for file in (photos / split).rglob("*.bmp"):
            os.utime(file, ns=(10**18, 10**18))
    file = photos / "train" / "ant" / "020.bmp"
    before = check_as_decoded(photos, folder)
    change(photos, file)
    after = check_as_decoded(photos, folder)
    assert after.train.images.path != before.train.images.path
    assert after.test.images.path == before.test.images.path


def test_changes_within_a_tick_of_the_clock_are_waited_out(photos, folder, monkeypatch):
    """The system's clock may give two changes one stamp: what was changed just now is not trusted yet."""
    file, slept = photos / "train" / "ant" / "020.bmp", []
    monkeypatch.setattr(identity, "TICK", 3600.0)

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 1:
            overwrite(photos, file)

    monkeypatch.setattr(time, "sleep", sleep)
    found = cached(photos, folder, splits=("train",))
    assert slept == [3600.0] * 2  # until nothing changed in one
    monkeypatch.setattr(identity, "TICK", 0)
    assert isinstance(found.train.images, np.ndarray)  # under the name of the files as they were first: not kept
    check_as_decoded(photos, folder)


@pytest.mark.parametrize("options", [{"image_size": 7}, {"imbalance_ratio": 2}, {"image_size": 12}])
def test_other_pixels_or_another_order_is_another_file(options, photos, folder):
    plain = check_as_decoded(photos, folder)
    other = check_as_decoded(photos, folder, **options)
    assert (plain.train.images.path == other.train.images.path) == (options == {"image_size": 12})


def test_another_decoder_is_another_file(photos, folder, monkeypatch):
    first, facts = cached(photos, folder), identity.decoder()
    assert facts["pillow"]
    assert "jpg" in facts["codecs"]
    for key in facts:
        monkeypatch.setattr(identity, "decoder", lambda key=key: {**facts, key: "another"})
        assert cached(photos, folder).train.images.path != first.train.images.path


def test_a_file_of_other_pixels_than_are_decoded_is_made_anew(photos, folder, monkeypatch, capsys):
    """As where a library under Pillow changes, and does not say so."""
    cached(photos, folder)
    decode = lazy.decode
    monkeypatch.setattr(lazy, "decode", lambda data, size, path: decode(data, size, path) // 2)
    check_as_decoded(photos, folder)
    assert capsys.readouterr().err.count("does not hold what its files decode to") == 2


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def cut(path):
    path.write_bytes(path.read_bytes()[:-1])


def halve(path):
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def empty(path):
    path.write_bytes(b"")


def pickled(path):
    np.save(path, np.array([{}]), allow_pickle=True)


def without_json(path):
    path.with_suffix(".json").unlink()


def half_json(path):
    halve(path.with_suffix(".json"))


def other_json(path):
    path.with_suffix(".json").write_text("[]")


def lying_json(path):
    facts = json.loads(path.with_suffix(".json").read_text())
    path.with_suffix(".json").write_text(json.dumps(facts | {"crc32": facts["crc32"][1:]}))


@pytest.mark.parametrize(
    "harm", [flip, cut, halve, empty, pickled, Path.unlink, without_json, half_json, other_json, lying_json]
)
def test_a_damaged_file_is_said_and_made_anew(harm, photos, folder, capsys):
    path = cached(photos, folder).train.images.path
    harm(path)
    capsys.readouterr()
    assert check_as_decoded(photos, folder).train.images.path == path
    said = capsys.readouterr().err
    assert said.count("is damaged") == (harm is not without_json)  # which never was finished
    assert said.count("kept in") == 1
    assert cached(photos, folder).train.images.path == path
    assert "is damaged" not in capsys.readouterr().err


def test_every_damaged_byte_is_found(photos, folder):
    path = cached(photos, folder, splits=("train",)).train.images.path
    whole = path.read_bytes()
    start = len(whole) - mapped(path).nbytes
    for at in np.random.default_rng(0).integers(start, len(whole), 50):
        data = bytearray(whole)
        data[at] ^= 1 << int(at) % 8
        path.write_bytes(data)
        with pytest.raises(cache.Damaged, match="checksum"):
            cache.verified(path, 1)
    path.write_bytes(whole)
    cache.verified(path, 1)


def killed_while_writing(photos, folder):
    """Ends like `kill -9` with a part of the images written."""
    number = [0]

    def decode(data, size, path, decode=lazy.decode):
        number[0] += 1
        if number[0] > 40:
            os.kill(os.getpid(), signal.SIGKILL)
        return decode(data, size, path)

    lazy.decode = decode
    cache.WORTH, identity.TICK = 0, 0.02
    cached(photos, folder)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="no kill -9 here")
def test_a_killed_writer_leaves_nothing_that_counts(photos, folder):
    process = multiprocessing.get_context("fork").Process(target=killed_while_writing, args=(photos, folder))
    process.start()
    process.join(60)
    assert process.exitcode == -signal.SIGKILL
    assert [path.suffix for path in folder.iterdir() if path.name[0] != "."] == [".tmp"]
    (folder / f"{cache_folder.OURS}-of-other-data.1.tmp").write_bytes(b"x")
    check_as_decoded(photos, folder)
    assert not list(folder.glob("*.tmp"))


def count_decoded(photos, folder, barrier, results):
    number, decode = [], lazy.decode
    lazy.decode = lambda data, size, path: number.append(path) or decode(data, size, path)
    cache.WORTH, identity.TICK = 0, 0.02
    barrier.wait(60)
    found = cached(photos, folder, splits=("train",))
    results.put((len(number), every(found.train).tobytes()))


def test_of_processes_that_start_at_once_one_decodes(photos, folder):
    context = multiprocessing.get_context("fork")
    barrier, results = context.Barrier(3), context.Queue()
    processes = [context.Process(target=count_decoded, args=(photos, folder, barrier, results)) for _ in range(3)]
    for process in processes:
        process.start()
    found = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join(60)
    assert sorted(number for number, _ in found) == [cache.TRIED] * 2 + [cache.TRIED + TRAIN]
    assert {pixels for _, pixels in found} == {every(load(str(photos), cache_bytes=0).train).tobytes()}


def test_files_that_change_while_they_are_decoded_are_not_kept(photos, folder, monkeypatch, capsys):
    file, decode, number = photos / "train" / "ant" / "020.bmp", lazy.decode, []

    def changing(data, size, path):
        number.append(path)
        if len(number) == 30:
            overwrite(photos, file)
        return decode(data, size, path)

    monkeypatch.setattr(lazy, "decode", changing)
    cached(photos, folder, splits=("train",))
    assert "changed while they were decoded" in capsys.readouterr().err
    assert not list(folder.glob("*.npy"))
    check_as_decoded(photos, folder)


def test_an_image_that_cannot_be_read_leaves_nothing(photos, folder):
    (photos / "train" / "ant" / "020.bmp").write_bytes(b"broken")
    with pytest.raises(InputError, match=r"020\.bmp"):
        cached(photos, folder)
    assert not folder.exists() or not [path for path in folder.iterdir() if path.name[0] != "."]


def test_none_small_sets_and_no_memory_keep_nothing(photos, folder, monkeypatch):
    assert isinstance(cached(photos, "none").train.images, np.ndarray)
    assert isinstance(cached(photos, folder, cache_bytes=0).train.images, LazyImages)
    monkeypatch.setattr(cache, "WORTH", 3600)
    assert isinstance(cached(photos, folder).train.images, np.ndarray)
    assert not folder.exists()


def test_a_split_that_memory_cannot_hold_is_held_by_the_disk(photos, folder):
    assert isinstance(cached(photos, folder, cache_bytes=1).train.images, MappedImages)
    assert isinstance(cached(photos, "none", cache_bytes=1).train.images, LazyImages)


def test_a_folder_that_cannot_be_written_is_said(photos, folder, capsys):
    folder.write_text("a file")
    with pytest.raises(InputError, match="no folder"):
        cached(photos, folder)
    assert isinstance(cached(photos, folder / "inside").train.images, np.ndarray)
    assert "cannot be written" in capsys.readouterr().err


def test_the_disk_is_shared_with_others(photos, folder, tmp_path, monkeypatch, capsys):
    """Half of what is free without our files; the longest unused go first, those of the last day never."""
    needed = sum(file.bytes for file in _kept_of(photos, tmp_path / "try"))
    folder.mkdir()
    day = cache_folder.RESTING
    for name, age in (("old", 3 * day), ("older", 4 * day), ("new", day / 2)):
        path = folder / f"{cache_folder.OURS}-{name}.npy"
        write(path, (2, 50, 50, 3), [np.zeros((2, 50, 50, 3), np.uint8)], {})
        os.utime(path.with_suffix(".json"), (time.time() - age,) * 2)
    taken = sum(file.bytes for file in cache_folder.kept(folder))

    def disk(free):
        monkeypatch.setattr(shutil, "disk_usage", lambda path: shutil._ntuple_diskusage(0, 0, free))

    names = lambda: {path.stem.rpartition("-")[2] for path in folder.glob("*.npy")} & {"old", "older", "new"}  # noqa: E731
    disk(3 * (taken + needed))
    cached(photos, folder)
    assert names() == {"old", "older", "new"}
    cache_folder.remove(next(file for file in cache_folder.kept(folder) if file.part == "train"))
    taken = sum(file.bytes for file in cache_folder.kept(folder))
    train = TRAIN * 12 * 12 * 3
    disk(2 * (taken + train - 10_000) - taken)
    cached(photos, folder)
    assert names() == {"old", "new"}
    assert "kept in" in capsys.readouterr().err
    cache_folder.remove(next(file for file in cache_folder.kept(folder) if file.part == "train"))
    disk(0)
    found = cached(photos, folder)
    assert names() == {"new"}
    assert isinstance(found.train.images, np.ndarray)
    assert isinstance(found.test.images, MappedImages)
    assert "are not kept on disk: they take" in capsys.readouterr().err


def _kept_of(photos, folder):
    cached(photos, folder)
    return cache_folder.kept(folder)


def test_state_and_clear(photos, folder, tmp_path):
    cached(photos, folder)
    (folder / "of the user.npy").write_bytes(b"x")
    state = cache_folder.state(folder, str(photos.resolve()))
    assert state["files"] == 2
    assert sorted((file["split"], file["shape"]) for file in state["of_these"]) == [
        ("test", [TEST, 12, 12, 3]),
        ("train", [TRAIN, 12, 12, 3]),
    ]
    assert state["bytes"] == sum(path.stat().st_size for path in folder.glob(f"{cache_folder.OURS}*"))
    assert cache_folder.state(folder, str(tmp_path))["of_these"] == []
    images = cached(photos, folder).train.images
    before = every(cached(photos, folder).train)
    assert cache_folder.clear(folder) == (2, state["bytes"])
    assert [path.name for path in folder.iterdir()] == ["of the user.npy"]
    assert (images.rows(range(TRAIN)) == before).all()  # who has it mapped keeps it
    assert cache_folder.state(folder, str(photos))["files"] == 0


def test_a_file_that_cannot_be_removed_goes_on_to_count(photos, folder, monkeypatch):
    """As on Windows, where a process has it mapped."""
    path, unlink = cached(photos, folder).train.images.path, Path.unlink

    def refusing(self, missing_ok=False):
        if self == path:
            raise PermissionError(13, "in use")
        unlink(self, missing_ok)

    monkeypatch.setattr(Path, "unlink", refusing)
    assert cache_folder.clear(folder)[0] == 1
    assert [file.path for file in cache_folder.kept(folder)] == [path]
    assert cached(photos, folder, splits=("train",)).train.images.path == path


def test_halves_are_cleared(photos, folder):
    paths = [cached(photos, folder).train.images.path, cached(photos, folder).test.images.path.with_suffix(".json")]
    for path in paths:
        path.unlink()
    cache_folder.clear(folder)
    assert not list(folder.iterdir())


@pytest.mark.parametrize("step", [1, 4, 41])
@pytest.mark.parametrize("threads", [1, 3])
def test_blocks_are_the_images_in_order(photos, step, threads):
    images = load(str(photos), cache_bytes=0).train.images
    expected = np.stack([images[i] for i in range(len(images))])
    found = list(blocks(images, expected.shape, "decoding", step, threads))
    assert [len(block) for block in found] == [step] * (TRAIN // step) + [TRAIN % step] * (TRAIN % step > 0)
    assert (np.concatenate(found) == expected).all()
    assert (decode_all(images, expected.shape, "decoding", threads) == expected).all()


class Exploding:
    """Images of which one fails, and that count how many were asked for."""

    def __init__(self, at):
        self.at, self.asked = at, 0

    def __len__(self):
        return 10_000

    def __getitem__(self, index):
        self.asked += 1
        if index == self.at:
            raise InputError("broken")
        return np.zeros((1, 1, 3), np.uint8)


def test_an_error_stops_the_others():
    images = Exploding(5)
    with pytest.raises(InputError, match="broken"):
        list(blocks(images, (10_000, 1, 1, 3), "decoding", 10, 2))
    assert images.asked < 200
    lazily = Exploding(-1)
    with contextlib.closing(blocks(lazily, (10_000, 1, 1, 3), "decoding", 10, 2)) as taken:
        next(taken)
    assert lazily.asked < 200  # who takes slowly is not overrun


def test_positions(photos, folder):
    images, plain = cached(photos, folder).train.images, load(str(photos), options=DataOptions(cache_dir="none")).train
    assert (images.rows([3, 1, 3]) == plain.images[[3, 1, 3]]).all()
    some = images.take(np.array([5, 2, 9]))
    assert (len(some), len(some.take([2, 0]))) == (3, 2)
    assert (some.take([2, 0]).rows([0, 1]) == plain.images[[9, 5]]).all()
    assert (some[-1] == plain.images[9]).all()
    assert (centres(some, [1], 8) == plain.images[[2], 2:10, 2:10]).all()
    assert (stack(some, range(3)) == plain.images[[5, 2, 9]]).all()
    image = some[0]
    image[:] = 0  # a copy
    assert (some[0] == plain.images[5]).all()
    with pytest.raises(ValueError, match="read-only"):
        images.pixels[0] = 0


@pytest.mark.parametrize("start", ["fork", "spawn"])
def test_other_processes_map_the_same_file(start, photos, folder):
    images = cached(photos, folder).train.images.take([4, 2])
    process = multiprocessing.get_context(start).Process(target=agree, args=(images, images.rows([0, 1]), 1))
    process.start()
    process.join(60)
    assert process.exitcode == 0
