"""From a run to files of one or more formats, each checked in its own runtime before it takes its name."""

import re
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import numpy as np

from car_ext.datasets import picture
from car_ext.errors import InputError
from car_ext.export.calibration import Calibration
from car_ext.export.card import NAME, check_card, model_card
from car_ext.export.confidence import Confidence
from car_ext.export.format import FORMATS, Format
from car_ext.files import write_text
from car_ext.runtimes.described import Described
from car_ext.runtimes.finished_run import FinishedRun
from car_ext.values import distinct

TRIED_BATCHES = (1, 3, 7)
PREDICT = Path(__file__).with_name("predict.py")  # not imported: it needs onnxruntime
PICTURE = Path(picture.__file__)  # the decoder of training


def to_onnx(run_dir: str | Path, out: str | Path | None = None) -> Path:
    """`export_run` to one float32 ONNX file, `RUN/model.onnx` by default. Returns its path."""
    return export_run(run_dir, ["fp32"], out)["fp32"]


def export_run(
    run_dir: str | Path,
    formats: Sequence[str] = ("fp32",),
    out: str | Path | None = None,
    *,
    calibration: Calibration | None = None,
    confidence: Confidence | None = None,
    logit_adjust: float | None = None,
    tau_norm: float | None = None,
    card: bool = False,
) -> dict[str, Path]:
    """Write a run as files that take uint8 images (batch, H, W, C) and give float32 logits (batch, K).

    Every file holds its weights and its preprocessing (scaling, mean, std), and in its metadata the class names,
    training class counts, how to decode and crop a picture, the run's configuration and metrics:

    - fp32, fp16, int8: ONNX with standard operators only. Beside them goes `predict.py`, which needs onnxruntime,
      numpy and pillow. fp16: weights and arithmetic of half precision between float32 preprocessing and logits.
      int8: see `Calibration`. Weights beyond 2 GB lie in a second file, `NAME.data`, to be kept beside the first.
    - torchscript: a trace. PyTorch has deprecated TorchScript in favour of torch.export; it is still what C++ programs
      with an older LibTorch, and PyTorch's mobile runtimes, load.
    - pt2: an `torch.export.ExportedProgram`.

    Other packages may add formats, see `Format`.

    A file is written in a folder of its own first and moved to its name once its runtime has given PyTorch's logits for
    batches of 1, 3 and 7. int8 computes something else by design: its metadata say how much else.

    Args:
        run_dir: the folder of a training run; a run that is not finished exports its last checkpoint.
        formats: names of formats, as in `car-ext export --help`.
        out: the file to write, or a folder for files named as there; the run's by default.
        calibration: which images int8 takes its ranges from.
        confidence: temperature and prediction sets; none by default.
        logit_adjust: tau of the post-hoc logit adjustment (`heads.logit_adjusted`) to build in.
        tau_norm: tau of the tau-normalised classifier (`heads.tau_normalized`) to build in.
        card: write a model card, README.md, beside the files.

    Returns:
        Format to path, in the order given.

    Raises:
        InputError: no run there, an unknown format, an operator outside the standard, or different results.
    """
    known = FORMATS.known()
    paths = _paths(known, Path(run_dir), formats, out)
    folder = next(iter(paths.values())).parent
    if card:
        check_card(folder)
    run = FinishedRun(run_dir, "cpu", logit_adjust=logit_adjust, tau_norm=tau_norm)
    if confidence:
        confidence.apply(run)
    with tempfile.TemporaryDirectory(prefix=".export-", dir=folder) as drafts:
        written = {name: Path(drafts, path.name) for name, path in paths.items()}
        for name, draft in written.items():
            _write(known[name], draft, run, calibration or Calibration())
        for name, path in paths.items():
            if path.suffix == ".onnx":
                _replace(written[name].with_name(path.name + ".data"), path.with_name(path.name + ".data"))
                write_text(path.with_name("predict.py"), standalone_predict())
            _replace(written[name], path)
        if card:
            write_text(folder / NAME, model_card(run, Path(run_dir), [path.name for path in paths.values()]))
    return paths


def files_of(paths: Iterable[Path]) -> list[Path]:
    """All that an export with a card wrote for some paths: also weights in files of their own and `predict.py`."""
    paths = [*paths]
    found = [file for path in paths for file in (path, path.with_name(path.name + ".data")) if file.exists()]
    beside = [PREDICT.name, NAME] if any(path.suffix == ".onnx" for path in paths) else [NAME]
    return found + [paths[0].with_name(name) for name in beside]


def standalone_predict() -> str:
    """The text of `predict.py` with the decoder's in place of its import."""
    text, decoder = (path.read_text(encoding="utf-8") for path in (PREDICT, PICTURE))
    return re.sub(r"from car_ext\.datasets\.picture import .*\n", lambda _: f"\n{decoder}\n", text, count=1)


def _write(format: Format, draft: Path, run: FinishedRun, calibration: Calibration) -> None:
    format.save(run, draft, calibration)
    if format.tolerance is not None:
        check_same_logits(run, format.open(draft, "cpu"), format.tolerance)


def _replace(draft: Path, path: Path) -> None:
    """Also where there is none to replace it with: weights of an older model."""
    if draft.exists():
        draft.replace(path)
    else:
        path.unlink(missing_ok=True)


def check_same_logits(expected: Described, found: Described, tolerance: float) -> None:
    """Compare two runtimes on noise.

    Raises:
        InputError: logits that differ by more than `tolerance` times the largest.
    """
    random = np.random.default_rng(0)
    for size in TRIED_BATCHES:
        images = random.integers(0, 256, (size, *expected.image_shape), dtype=np.uint8)
        truth, logits = expected(images), found(images)
        error = np.abs(logits - truth).max() if logits.shape == truth.shape else np.inf
        allowed = tolerance * max(1.0, np.abs(truth).max())
        if not error <= allowed:
            raise InputError(
                f"{found.provider} and PyTorch disagree by {error:.2g} on the logits of a batch of {size} (allowed: "
                f"{allowed:.2g}), so nothing was written; another --model, another --format or a newer runtime may do."
            )


def _paths(
    known: Mapping[str, Format], run_dir: Path, formats: Sequence[str], out: str | Path | None
) -> dict[str, Path]:
    for name in formats:
        if name not in known:
            raise InputError(f"--format {name} is not known; there are {', '.join(known)}.")
    distinct(formats, "--formats")
    folder = run_dir if out is None else Path(out)
    if out is None or folder.is_dir():
        paths = {name: folder / known[name].file for name in formats}
    elif len(formats) > 1:
        raise InputError(f"--out {out} is one file for {len(formats)} formats; give a folder that exists.")
    else:
        (name,) = formats
        if folder.suffix != known[name].suffix:
            raise InputError(f"--out {out}: a {name} file ends in {known[name].suffix}.")
        if not folder.parent.is_dir():
            raise InputError(f"--out {out}: the folder {folder.parent} does not exist; create it or name another.")
        paths = {name: folder}
    for path in paths.values():
        script = path.with_name("predict.py")
        if path.suffix == ".onnx" and script.exists() and not _is_ours(script):
            raise InputError(f"{script} is not the one that an export writes beside its model; move it, or give --out.")
    return paths


def _is_ours(script: Path) -> bool:
    return script.read_text(encoding="utf-8", errors="replace").startswith('"""python predict.py MODEL.onnx ')
