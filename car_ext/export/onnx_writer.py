"""A run as an ONNX model of standard operators, with its preprocessing inside and its description in the metadata."""

import copy
import json
import logging
import os
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import onnx
import torch
from onnxscript import ir, opset18
from torch import Tensor, nn

from car_ext.errors import InputError
from car_ext.export.translations import onnx_translations
from car_ext.runtimes.finished_run import FinishedRun

OPSET = 18
op: Any = opset18  # its types are those of an eager call; in a translation it takes and gives the values of a graph
STANDARD = ("", "ai.onnx")
LARGEST_WEIGHTS = 2_000_000_000  # bytes; a protobuf message ends at 2 GiB, names and metadata included


def save_float32(run: FinishedRun, path: Path) -> None:
    """Write the classifier as it is.

    Raises:
        InputError: an operator outside the standard.
    """
    save_described(_translated(run.classifier, run.image_shape), path, run.facts)


def save_float16(run: FinishedRun, path: Path) -> None:
    """Write the classifier with weights and arithmetic of half precision.

    Raises:
        InputError: an operator outside the standard.
    """
    half = copy.deepcopy(run.classifier)
    # Intensities and their statistics stay float32, and so do the logits that users compare.
    half.backbone = nn.Sequential(_Cast(torch.float16), half.backbone.half())
    half.head = nn.Sequential(half.head.half(), _Cast(torch.float32))
    save_described(_translated(half, run.image_shape), path, run.facts)


def save_described(model: ir.Model, path: Path, facts: Mapping[str, Any]) -> None:
    """Write and check a model, its weights in `path` or, beyond the size of one file, in `path.data` beside it.

    Raises:
        InputError: an operator outside the standard.
    """
    nodes = [*ir.traversal.RecursiveGraphIterator(model.graph)]
    for function in model.functions.values():
        nodes += ir.traversal.RecursiveGraphIterator(function)
    if foreign := sorted({f"{node.domain}::{node.op_type}" for node in nodes if node.domain not in STANDARD}):
        raise InputError(f"the model uses {', '.join(foreign)}, which a plain ONNX runtime does not have.")
    for domain in [*model.opset_imports]:
        if domain not in STANDARD:
            del model.opset_imports[domain]
    # The exporter claims the newest version of the file format it knows, which older runtimes refuse.
    versions = [onnx.helper.make_opsetid(domain, version) for domain, version in model.opset_imports.items()]
    model.ir_version = onnx.helper.find_min_ir_version_for(versions)
    model.producer_name = "car_ext"
    model.metadata_props.clear()
    model.metadata_props.update({key: json.dumps(value) for key, value in facts.items()})
    weights = sum(value.const_value.nbytes for value in model.graph.initializers.values() if value.const_value)
    # A path without a folder: the two files go wherever they go together.
    outside = f"{path.name}.data" if weights > LARGEST_WEIGHTS else None
    ir.save(model, path, external_data=outside, size_threshold_bytes=1024)
    onnx.checker.check_model(os.fspath(path), full_check=True)


class _Cast(nn.Module):
    def __init__(self, dtype: torch.dtype) -> None:
        super().__init__()
        self.dtype = dtype

    def forward(self, x: Tensor) -> Tensor:
        return x.to(self.dtype)


# Without annotations: the exporter takes those of such a function for ONNX types.
def _pooled(pooled, size, stride, storage_offset=None):
    """`as_strided` as average pooling to one pixel leaves it in programs of torch 2.11 to 2.13: the same tensor.

    The exporter's own translation is a loop, which older runtimes cannot quantise.
    """
    dense = len(size) == 4 and list(size[2:]) == [1, 1] and list(stride[:2]) == [size[1], 1] and not storage_offset
    if not dense or list(pooled.shape)[1:] != list(size[1:]):
        raise NotImplementedError(f"as_strided to {size} by {stride}")
    return op.Identity(pooled)


def _translated(classifier: nn.Module, image_shape: tuple[int, int, int]) -> ir.Model:
    example = torch.zeros(2, *image_shape, dtype=torch.uint8)
    # The exporter reports its own progress and the deprecations of its own calls; neither helps its user.
    noisy = logging.getLogger("torch.onnx")
    level = noisy.level
    noisy.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program: Any = torch.onnx.export(
                classifier,
                (example,),
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["images"],
                output_names=["logits"],
                dynamic_shapes={"images": {0: torch.export.Dim("batch", min=1)}},
                custom_translation_table={**onnx_translations(), torch.ops.aten.as_strided.default: _pooled},
            )
    finally:
        noisy.setLevel(level)
    return program.model
