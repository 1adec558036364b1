"""Export a training run: files that take uint8 images, carry their own preprocessing and say what they are."""

import argparse

from car_ext.cli.parser import Number, Parser
from car_ext.errors import InputError

EXAMPLES = """\
examples:
  %(prog)s runs/digits-convnet-ce+car-seed0 --formats fp32 int8
      model.onnx and model.int8.onnx in the run's folder
  %(prog)s runs/NAME --format pt2 --out model.pt2 --logit-adjust 1
      an ExportedProgram, its head corrected for the class frequencies
  %(prog)s runs/NAME --temperature auto --conformal 0.1 --held-out photos_val/
      probabilities that are as often right as they say, and sets that hold the true class nine times in ten
  %(prog)s runs/NAME --push-to-hub you/photos
      the ONNX file, predict.py and a model card in a private repository of the Hugging Face Hub
"""


def add_options(parser: Parser) -> None:
    """Adds this command's options."""
    from car_ext.export import FORMATS

    formats = FORMATS.known()
    parser.add_argument("run", metavar="RUN", help="the --out folder of a training run")
    parser.add_argument("--out", metavar="PATH", help="the file to write, or a folder (default: RUN, with names below)")
    what = parser.add_mutually_exclusive_group()
    listed = ", ".join(f"{name} ({format.file})" for name, format in formats.items())
    what.add_argument("--format", choices=formats, default="fp32", help=f"{listed}; default: %(default)s")
    what.add_argument("--formats", nargs="+", choices=formats, metavar="FORMAT", help="several of them")
    _add_calibration(parser.add_argument_group("int8"))
    hub = parser.add_argument_group("Hugging Face")
    hub.add_argument(
        "--card",
        action="store_true",
        help="write a model card beside the files, README.md: scores, every class from the worst on, how to use it",
    )
    hub.add_argument(
        "--push-to-hub",
        metavar="NAMESPACE/NAME",
        help="upload the files with their card to this repository, which is created private; set HF_TOKEN for it",
    )
    hub.add_argument("--public", action="store_true", help="create it public")
    correction = parser.add_argument_group("correction for class frequencies, built into the head")
    correction.add_argument(
        "--logit-adjust",
        action=Number,
        kind=float,
        metavar="TAU",
        help="logits less TAU * log frequency, 1 is usual; not for a run whose loss did this already",
    )
    correction.add_argument(
        "--tau-norm",
        action=Number,
        kind=float,
        metavar="TAU",
        help="class vectors divided by their norm to the power of TAU",
    )
    _add_confidence(parser.add_argument_group("confidence, which changes no prediction"))


def _add_calibration(int8: argparse._ArgumentGroup) -> None:
    from car_ext.export import Calibration

    int8.add_argument(
        "--calibration",
        choices=("class-balanced", "random"),
        default=Calibration.draw,
        help="how the training images are drawn that set the ranges of activations (%(default)s)",
    )
    int8.add_argument(
        "--calibration-images", action=Number, low=1, default=Calibration.images, metavar="N", help="(%(default)s)"
    )
    int8.add_argument("--seed", action=Number, default=Calibration.seed, metavar="N", help="of the draw (%(default)s)")
    int8.add_argument(
        "--data", metavar="PATH", help="where the run's data lie now, for the confidence too (default: as then)"
    )
    int8.add_argument("--data-root", metavar="DIR", help="and the files of a benchmark or list")


def _add_confidence(confidence: argparse._ArgumentGroup) -> None:
    confidence.add_argument(
        "--temperature",
        metavar="T",
        help="what logits are divided by, so that a probability is as often right as it says: auto fits it on held-out "
        "images, groups one for many-, medium- and few-shot classes each, by the class that is predicted; or a number",
    )
    confidence.add_argument(
        "--conformal",
        action=Number,
        kind=float,
        metavar="ALPHA",
        help="sets of classes that miss the true one at most this often, in every class; predict.py prints them",
    )
    confidence.add_argument(
        "--held-out",
        metavar="DATA",
        help="labelled images to fit these on, a folder of class folders or as in training; never training or test "
        "images (default: the run's validation images, or those of its --holdout)",
    )


def run(arguments: argparse.Namespace) -> None:
    """Writes the files and says what they are."""
    from car_ext.export import FORMATS, Calibration, Confidence, export_run
    from car_ext.export.export import files_of

    if arguments.public and not arguments.push_to_hub:
        raise InputError("--public is of --push-to-hub: give the repository.")
    hub = None
    if arguments.push_to_hub:
        from car_ext.export.hub import Hub

        hub = Hub(arguments.push_to_hub, arguments.public)
    written = export_run(
        arguments.run,
        arguments.formats or [arguments.format],
        arguments.out,
        calibration=Calibration(
            arguments.calibration, arguments.calibration_images, arguments.seed, arguments.data, arguments.data_root
        ),
        confidence=Confidence(
            arguments.temperature, arguments.conformal, arguments.held_out, arguments.data, arguments.data_root
        ),
        logit_adjust=arguments.logit_adjust,
        tau_norm=arguments.tau_norm,
        card=arguments.card or hub is not None,
    )
    for name, path in written.items():
        size = sum(file.stat().st_size for file in (path, path.with_name(path.name + ".data")) if file.exists())
        unchecked = FORMATS.known()[name].tolerance is None
        checked = "score it before use: car-ext evaluate" if unchecked else "gives PyTorch's logits"
        print(f"{path}: {size / 1e6:.2f} MB, {name}, {checked}")
    if hub:
        print(f"pushed to {hub.push(files_of(written.values()))}")
