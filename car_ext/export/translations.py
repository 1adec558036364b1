"""CAR's operators in standard ONNX ones, for models that contain them."""

from collections.abc import Callable
from typing import Any

import torch
from onnxscript import ir, opset18

from car_ext.ops import operators as ops

op: Any = opset18  # its types are those of an eager call; here it takes and gives the values of a graph


def onnx_translations() -> dict[Callable, Callable]:
    """The `custom_translation_table` of `torch.onnx.export(..., dynamo=True)` for modules with `car_ext.confusion`.

        torch.onnx.export(module, (logits, targets), "confusion.onnx", dynamo=True, opset_version=18,
                          custom_translation_table=onnx_translations())

    The file needs opset 18 or later and no custom operator. It computes what the kernels do, first-order gradients
    aside, and like those for CUDA it cannot raise for what the data hold: for a target out of range, a negative weight
    and logits that are NaN or infinite the matrix is NaN.
    """
    return {ops.confusion.default: _confusion}


# Without annotations: the exporter takes those of such a function for ONNX types.
def _confusion(
    logits,
    targets,
    sample_weights=None,
    gamma=0.1,
    temperature=1.0,
    softmax_over_all=False,
    detach_gate=False,
    ignore_index=-100,
):
    """`functional.confusion`, N * prod(spatial) samples at once: (K, K), row = true class, and (K,) its weight."""
    wide = logits.dtype == ir.DataType.DOUBLE
    kind = ir.DataType.DOUBLE if wide else ir.DataType.FLOAT
    lowest = torch.finfo(torch.float64 if wide else torch.float32).min

    def scalar(value: float) -> ir.Value:
        return op.Constant(value=ir.tensor(value, dtype=kind))

    zero, nan, first, second = scalar(0.0), scalar(float("nan")), _ints(0), _ints(1)
    z = op.Cast(logits, to=kind)
    spatial = range(2, len(logits.shape))
    classes = op.Shape(z, start=1, end=2)
    if spatial:
        z = op.Reshape(op.Transpose(z, perm=[0, *spatial, 1]), op.Concat(_ints(-1), classes, axis=0))
    labels = op.Reshape(targets, _ints(-1, 1))
    kept = op.Not(op.Equal(labels, _ints(ignore_index)))  # (N, 1)
    every = op.Range(_int(0), op.Squeeze(classes), _int(1))
    true = op.And(kept, op.Equal(labels, op.Unsqueeze(every, first)))  # (N, K)

    z = op.Where(kept, z, zero)
    z = op.Where(op.Less(z, scalar(lowest)), scalar(lowest), z)
    own = op.ReduceSum(op.Where(true, z, zero), second)
    gates = op.Sigmoid(op.Add(op.Sub(z, own), scalar(gamma)))
    candidates = z if softmax_over_all else op.Where(true, scalar(-float("inf")), z)
    # From the largest, or a temperature below 1 would make infinities of masked classes.
    candidates = op.Div(op.Sub(candidates, op.ReduceMax(candidates, second)), scalar(temperature))
    values = op.Where(true, zero, op.Mul(gates, op.Softmax(candidates, axis=1)))

    members = op.Cast(true, to=kind)
    wrong = op.And(kept, op.Less(op.ReduceSum(members, second), scalar(0.5)))
    if sample_weights is not None:
        weights = op.Where(kept, op.Reshape(op.Cast(sample_weights, to=kind), _ints(-1, 1)), zero)
        wrong = op.Or(wrong, op.Less(weights, zero))
        members = op.Mul(members, weights)
    # 0 times what is not finite is NaN, and one NaN among its members is enough for a class.
    finite = op.ReduceSum(op.Mul(z, zero), second)
    members = op.Add(op.Mul(members, op.Where(wrong, nan, scalar(1.0))), finite)
    mass = op.ReduceSum(members, first, keepdims=0)
    divisor = op.Where(op.Greater(mass, zero), mass, scalar(1.0))
    matrix = op.MatMul(op.Transpose(members, perm=[1, 0]), values)
    return op.Div(matrix, op.Unsqueeze(divisor, second)), mass


def _ints(*values: int) -> ir.Value:
    return op.Constant(value=ir.tensor(values, dtype=ir.DataType.INT64))


def _int(value: int) -> ir.Value:
    return op.Constant(value=ir.tensor(value, dtype=ir.DataType.INT64))
