"""Models that contain the confusion operator, outside PyTorch's Python."""

import io
import warnings

import onnxruntime
import pytest
import torch

import car_ext
from car_ext.export import onnx_translations

OPTIONS = [
    {},
    {"gamma": 0.8, "temperature": 0.4},
    {"softmax_over_all": True, "detach_gate": True},
    {"ignore_index": 2},
]


class Confusions(torch.nn.Module):
    """The operator with every set of options."""

    def forward(self, logits, targets, sample_weights):
        plain = [car_ext.confusion(logits, targets, **options) for options in OPTIONS]
        weighted = [car_ext.confusion(logits, targets, sample_weights, **options) for options in OPTIONS]
        return *plain, *weighted, car_ext.confusion(logits.half(), targets)


def batch(samples, dtype, spatial=(), seed=0):
    g = torch.Generator().manual_seed(seed)
    logits = (4 * torch.randn(samples, 5, *spatial, generator=g)).to(dtype)
    logits[1, 3] = -torch.inf  # masked
    targets = torch.randint(0, 5, (samples, *spatial), generator=g)
    targets[0] = 2
    weights = torch.rand(targets.shape, generator=g).to(torch.float64 if dtype == torch.float64 else torch.float32)
    return logits, targets, weights


def to_onnx(example):
    samples = {0: torch.export.Dim("samples", min=1)}
    file = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's about its own calls
        program = torch.onnx.export(
            Confusions(),
            example,
            dynamo=True,
            verbose=False,
            opset_version=18,
            dynamic_shapes=(samples, samples, samples),
            custom_translation_table=onnx_translations(),
        )
    assert {node.domain for node in program.model.graph} == {""}
    program.save(file)
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [value.name for value in session.get_inputs()]
    return lambda *inputs: session.run(None, dict(zip(names, (tensor.numpy() for tensor in inputs), strict=True)))


@pytest.mark.parametrize(
    ("dtype", "spatial"),
    [(torch.float32, ()), (torch.float64, (2, 3))],
)
def test_onnxruntime_gives_the_kernels_matrix(dtype, spatial):
    example = batch(16, dtype, spatial)
    run = to_onnx(example)
    for samples, seed in ((16, 0), (2, 1), (301, 2)):
        inputs = batch(samples, dtype, spatial, seed)
        expected = Confusions()(*inputs)
        found = run(*inputs)
        assert len(found) == len(expected) == 2 * len(OPTIONS) + 1
        for matrix, truth in zip(found, expected, strict=True):
            torch.testing.assert_close(torch.from_numpy(matrix), truth, rtol=0, atol=1e-5, check_stride=False)

    if dtype == torch.float32:  # what the CPU kernel refuses is NaN, as in CUDA
        logits, targets, weights = batch(8, dtype)
        for bad in (
            (logits, targets.index_fill(0, torch.tensor([1]), 5), weights),
            (logits, targets.index_fill(0, torch.tensor([1]), -1), weights),
            (logits.index_fill(0, torch.tensor([1]), torch.nan), targets, weights),
            (logits.index_fill(0, torch.tensor([1]), torch.inf), targets, weights),
        ):
            assert torch.from_numpy(run(*bad)[0]).isnan().all()
        negative = run(logits, targets, -weights)
        assert not torch.from_numpy(negative[0]).isnan().any()
        assert torch.from_numpy(negative[len(OPTIONS)]).isnan().all()


@pytest.mark.filterwarnings("ignore:`torch.jit:FutureWarning")
def test_pytorchs_formats_keep_the_operator():
    inputs = batch(16, torch.float32)
    expected = Confusions()(*inputs)
    traced, exported = io.BytesIO(), io.BytesIO()
    torch.jit.save(torch.jit.trace(Confusions(), inputs), traced)
    torch.export.save(torch.export.export(Confusions(), inputs), exported)
    traced.seek(0)
    exported.seek(0)
    for loaded in (torch.jit.load(traced), torch.export.load(exported).module()):
        for matrix, truth in zip(loaded(*inputs), expected, strict=True):
            assert torch.equal(matrix, truth)
