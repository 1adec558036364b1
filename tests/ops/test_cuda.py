"""The CUDA operator on a GPU: against the float64 oracles, and what only a GPU can show."""

import copy
import itertools

import pytest
import torch
import torch.nn.functional as F
from cases import (
    DTYPES,
    FORMS,
    Case,
    Options,
    assert_a_bad_sample_spares_the_state,
    assert_matches_oracle,
    assert_same_bits,
    layouts,
    name_of,
    relative,
    tolerance_of,
    two_blocks,
)
from torch import library, nn

from car_ext import CAR
from car_ext.ops import library as _library
from car_ext.ops import operators as ops

DEVICE = "cuda"


pytestmark = pytest.mark.cuda


@pytest.fixture(autouse=True)
def _gpu():
    if _library.CUDA_OBJECT is None:
        pytest.skip(f"the CUDA operator is NOT tested here, it is not built: {_library.CUDA_STATUS}")
    if not torch.cuda.is_available():
        pytest.skip("the CUDA operator is NOT tested here: there is no CUDA device")


def case_of(samples, classes, dtype=torch.float32, form=None, **fields) -> Case:
    options = Options(**{"tolerance": tolerance_of(dtype), **(form or {})})
    return Case(samples, classes, dtype=dtype, options=options, device=DEVICE, **fields)


def counts_of(classes):
    return torch.linspace(1000, 5, classes).int()


def batch_of(samples, classes, seed=0, scale=3.0):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(samples, classes, generator=g) * scale, torch.randint(0, classes, (samples,), generator=g)


def loss_and_gradient(car, logits, targets):
    leaf = logits.detach().requires_grad_()
    loss = car(leaf, targets)
    (gradient,) = torch.autograd.grad(loss, leaf)
    return loss.detach(), gradient


# -- against the oracles


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32], ids=str)
@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("form", FORMS, ids=name_of)
def test_every_form_matches_the_oracle(form, temperature, dtype):
    form = {**form, "temperature": temperature}
    for shape, cold in itertools.product([(1, 2), (9, 5), (40, 37), (30, 150)], [False, True]):
        assert_matches_oracle(case_of(*shape, dtype, form, weighted=True, ignored=True, cold=cold), ops.car_step)


# Around 128 classes a block stops iterating alone; around 4 samples a block, rows go from blocks to warps; with more
# classes, rows of the matrix no longer stay on chip and are streamed, and at last even the vectors do not fit.
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize(
    "shape",
    [
        (1, 2), (1, 300), (7, 100), (300, 2), (64, 127), (64, 128), (64, 129), (131, 133), (527, 200), (529, 200),
        (128, 1000), (1024, 1000), (33, 2048), (5, 2999), (256, 4096), (40, 5001), (4096, 64), (65536, 10),
        (65536, 300), (256, 8142),
    ],
    ids=str,
)  # fmt: skip
def test_dtypes_and_shapes(dtype, shape):
    assert_matches_oracle(case_of(*shape, dtype, scale=2.0, weighted=True, ignored=shape[0] > 1), ops.car_step)


@pytest.mark.parametrize("form", [{}, {"hold_absent": True, "debias": True}, {"start_from_first_batch": True}], ids=str)
def test_many_classes_from_a_cold_start(form):
    for shape in ((128, 1000), (64, 8142)):
        assert_matches_oracle(case_of(*shape, form=form, cold=True), ops.car_step)


def test_more_classes_than_any_vector_fits_on_chip():
    classes = 32768
    if torch.cuda.mem_get_info()[0] < 40 * classes**2:
        pytest.skip(f"needs {40 * classes**2 >> 30} GiB of free GPU memory for the oracle")
    assert_matches_oracle(case_of(4, classes), ops.car_step)


def test_many_samples_of_few_classes_in_every_form():
    for form in FORMS[::5]:
        assert_matches_oracle(case_of(65536, 3, form=form, weighted=True, ignored=True), ops.car_step)


def test_state_follows_the_oracle_over_many_batches():
    for form in FORMS[::3]:
        case = case_of(20, 30, torch.float64, form, cold=True)
        for step in range(6):
            case.logits, case.targets = (t.to(DEVICE) for t in batch_of(20, 30, seed=step))
            case.logits = case.logits.double()
            assert_matches_oracle(case, ops.car_step)
            case.state = case.run(ops.car_step)[2]


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("shape", [(2, 5, (3, 4)), (2, 21, (33, 17)), (1, 150, (8, 8)), (3, 6, (40,))], ids=str)
def test_dense_prediction_in_place(dtype, shape):
    case = case_of(*shape[:2], dtype, spatial=shape[2], weighted=True, ignored=True)
    assert_matches_oracle(case, ops.car_step)
    for logits in layouts(case.logits):
        assert_same_bits(case.run(ops.car_step, logits), case.run(ops.car_step))


@pytest.mark.parametrize("shape", [(6, 9), (200, 1000), (3, 5000)], ids=str)
def test_any_strides_give_the_same_bits(shape):
    case = case_of(*shape)
    for logits in layouts(case.logits):
        assert_same_bits(case.run(ops.car_step, logits), case.run(ops.car_step))
    broadcast = case.logits[:, :1].expand(shape)
    assert_same_bits(case.run(ops.car_step, broadcast), case.run(ops.car_step, broadcast.contiguous()))


def test_confident_and_masked_logits():
    for value in (0.0, 1e4, -1e4, -torch.inf):
        case = case_of(6, 5, scale=1.0)
        case.targets.fill_(3)
        case.logits[:, 2] += value
        assert_matches_oracle(case, ops.car_step)


@pytest.mark.parametrize("classes", [3, 131, 3000])
def test_nothing_to_learn_from(classes):
    assert_matches_oracle(case_of(0, classes), ops.car_step)
    case = case_of(4, classes, cold=True)
    case.targets.fill_(case.options.ignore_index)
    sigma, grad, _ = case.run(ops.car_step)
    assert sigma == 0
    assert not grad.any()


@pytest.mark.parametrize("classes", [60, 200])
def test_near_degenerate_top_values(classes):
    case = two_blocks(classes, device=DEVICE)
    sigma, _, state = case.run(ops.car_step)
    assert relative(sigma, torch.linalg.matrix_norm(case.state[1].cpu(), 2).to(DEVICE)) < 1e-9
    assert state[3][: classes // 2].norm() < 1e-3


@pytest.mark.parametrize("classes", [20, 60, 140, 1000])
def test_a_matrix_of_low_rank_exhausts_the_iteration(classes):
    # What a first step with few samples gives: after `samples` basis vectors only rounding is left to iterate on.
    for samples, seed in itertools.product([1, 2, 3, 5, 8], range(8)):
        case = case_of(samples, classes, cold=True, seed=seed)
        (sigma, grad, _), (true_sigma, true_grad, _) = case.run(ops.car_step), case.oracle()
        assert relative(sigma, true_sigma) <= 3e-6
        assert relative(grad, true_grad) <= 2e-3


def spoil_with_nan(case):
    case.logits[2, 1] = torch.nan


def spoil_with_infinity(case):
    case.logits[2, 0] = torch.inf


def spoil_with_a_class_out_of_range(case):
    case.targets[2] = case.classes


@pytest.mark.parametrize("spoil", [spoil_with_nan, spoil_with_infinity, spoil_with_a_class_out_of_range])
@pytest.mark.parametrize("shape", [(6, 4), (6, 140), (600, 200), (6, 3000)], ids=str)
def test_a_bad_sample_spares_the_state(shape, spoil):
    assert_a_bad_sample_spares_the_state(case_of(*shape), ops.car_step, spoil)


def test_state_on_another_device_is_refused():
    logits, targets = (t.to(DEVICE) for t in batch_of(5, 4))
    with pytest.raises(RuntimeError, match=r"on different devices; move the module with car.to\(device\)"):
        CAR(counts_of(4))(logits, targets)


@pytest.mark.parametrize("op", ["car_step", "attach_gradient"])
def test_opcheck(op):
    case = case_of(6, 4, weighted=True)
    step = (case.logits, case.targets, case.weights, *case.state, *case.options.args())
    attach = (case.logits.clone().requires_grad_(), torch.ones((), device=DEVICE), torch.rand_like(case.logits))
    library.opcheck(getattr(torch.ops.car_ext, op), step if op == "car_step" else attach)


# -- determinism, graphs, streams, memory


@pytest.mark.parametrize("shape", [(64, 100), (4096, 10), (128, 1000), (1024, 1000), (256, 8142)], ids=str)
def test_fifty_runs_beside_other_work_have_the_same_bits(shape):
    case = case_of(*shape, weighted=True)
    once = case.run(ops.car_step)
    elsewhere, noise = torch.cuda.Stream(), torch.rand(2048, 2048, device=DEVICE)
    elsewhere.wait_stream(torch.cuda.current_stream())
    for _ in range(50):
        with torch.cuda.stream(elsewhere):
            torch.mm(noise, noise)
        assert_same_bits(case.run(ops.car_step), once)


@pytest.mark.parametrize("shape", [(64, 100), (128, 1000), (64, 4096)], ids=str)
def test_a_replayed_graph_advances_the_state_as_eager_calls_do(shape):
    # Capture itself proves that the call waits for nothing: a synchronisation would break it.
    case = case_of(*shape, cold=True)
    batches = [tuple(t.to(DEVICE) for t in batch_of(*shape, seed=seed)) for seed in range(4)]
    ops.car_step(*case.arguments())  # loads the kernel, which capture would not allow

    logits, targets = case.logits.clone(), case.targets.clone()
    captured, eager = (logits, targets, *case.arguments()[2:]), case.arguments()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        sigma, grad = ops.car_step(*captured)
    assert torch.equal(captured[4], case.state[1]), "capturing must not run anything"
    for z, y in batches:
        logits.copy_(z)
        targets.copy_(y)
        graph.replay()
        expected = ops.car_step(z, y, *eager[2:])
        assert_same_bits((sigma, grad, captured[3:8]), (*expected, eager[3:8]))


def test_the_module_and_its_backward_in_a_graph():
    logits, targets = (t.to(DEVICE) for t in batch_of(32, 200))
    eager = CAR(counts_of(200)).to(DEVICE)
    captured = copy.deepcopy(eager)
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        loss_and_gradient(copy.deepcopy(eager), logits, targets)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        loss, gradient = loss_and_gradient(captured, logits, targets)
    for _ in range(3):
        graph.replay()
        expected = loss_and_gradient(eager, logits, targets)
        assert torch.equal(loss, expected[0])
        assert torch.equal(gradient, expected[1])
    assert torch.equal(captured.ema, eager.ema)


def test_the_host_never_waits():
    car = CAR(counts_of(200), absent="hold").to(DEVICE)
    logits, targets = (t.to(DEVICE) for t in batch_of(32, 200))
    leaf = logits.requires_grad_()
    car(leaf, targets).backward()
    torch.cuda.synchronize()
    torch.cuda.set_sync_debug_mode("error")
    try:
        car(leaf, targets).backward()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def test_runs_on_the_current_stream():
    case = case_of(64, 300)
    expected = case.run(ops.car_step)
    late, arguments = torch.full_like(case.logits, torch.nan), case.arguments()
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        torch.cuda._sleep(100_000_000)  # cycles: on any other stream the kernel would read the NaN
        late.copy_(case.logits)
        sigma, grad = ops.car_step(late, *arguments[1:])
    stream.synchronize()
    assert_same_bits((sigma, grad, arguments[3:8]), expected)


@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
def test_another_device_than_the_current_one():
    with torch.cuda.device(0):
        case = Case(40, 150, dtype=torch.float32, device="cuda:1", options=Options(tolerance=1e-5))
        assert_matches_oracle(case, ops.car_step)
        assert torch.cuda.current_device() == 0


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("shape", [(128, 100), (128, 1000), (1024, 1000), (256, 8142), (65536, 10)], ids=str)
def test_memory_beyond_the_inputs_is_bounded(shape, dtype):
    samples, classes = shape
    arguments = case_of(*shape, dtype).arguments()
    ops.car_step(*arguments)
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    results = ops.car_step(*arguments)
    extra = torch.cuda.max_memory_allocated() - before
    assert results[1].nbytes <= extra <= 2 * 4 * classes**2 + 2 * dtype.itemsize * samples * classes


# -- the module


OPTIONS = [{}, {"absent": "hold"}, {"debias": True}, {"variant": "reference-code"}]


@pytest.mark.parametrize("options", OPTIONS, ids=str)
@pytest.mark.parametrize("classes", [10, 150, 1000])
def test_cpu_and_cuda_agree_over_ten_steps(classes, options):
    here, there = CAR(counts_of(classes), **options), CAR(counts_of(classes), **options).to(DEVICE)
    for seed in range(10):
        logits, targets = batch_of(64, classes, seed)
        loss, gradient = loss_and_gradient(here, logits, targets)
        other_loss, other_gradient = loss_and_gradient(there, logits.to(DEVICE), targets.to(DEVICE))
        torch.testing.assert_close(other_loss.cpu(), loss, rtol=1e-5, atol=0)
        assert (other_gradient.cpu() - gradient).norm() <= 1e-3 * gradient.norm()
    torch.testing.assert_close(there.ema.cpu(), here.ema, rtol=0, atol=3e-6)
    assert torch.equal(there.updates.cpu(), here.updates)


def test_evaluation_leaves_the_state_alone():
    car = CAR(counts_of(150)).to(DEVICE)
    logits, targets = (t.to(DEVICE) for t in batch_of(16, 150))
    car(logits, targets)
    before = copy.deepcopy(car.state_dict())
    with torch.no_grad():
        seen = car(logits, targets)
    assert car.eval()(logits, targets) == seen
    assert all(torch.equal(value, before[name]) for name, value in car.state_dict().items())


def test_compile_fullgraph():
    plain = CAR(counts_of(20)).to(DEVICE)
    car = copy.deepcopy(plain)

    def loss_of(module, logits, targets):
        return F.cross_entropy(logits, targets) + module(logits, targets)

    compiled = torch.compile(loss_of, fullgraph=True)
    for seed in range(3):
        logits, targets = (t.to(DEVICE) for t in batch_of(16, 20, seed))
        results = []
        for function, module in ((compiled, car), (loss_of, plain)):
            leaf = logits.clone().requires_grad_()
            loss = function(module, leaf, targets)
            results.append((loss.detach(), *torch.autograd.grad(loss, leaf)))
        torch.testing.assert_close(*results, rtol=1e-5, atol=1e-7)
    assert torch.equal(car.ema, plain.ema)


def network(classes=4):
    torch.manual_seed(0)
    return nn.Linear(8, classes).to(DEVICE), CAR(counts_of(classes)).to(DEVICE)


def inputs_of(seed, classes=4):
    g = torch.Generator().manual_seed(seed)
    return torch.randn(16, 8, generator=g).to(DEVICE), torch.randint(0, classes, (16,), generator=g).to(DEVICE)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_autocast(dtype):
    (net, car), (plain_net, plain_car) = network(), network()
    x, y = inputs_of(0)
    with torch.autocast(DEVICE, dtype=dtype):
        logits = net(x)
        loss = car(logits, y)
    loss.backward()
    plain = plain_car(plain_net(x), y)
    plain.backward()
    assert logits.dtype == dtype
    assert car.ema.dtype == torch.float32
    assert relative(loss, plain.double()) < 2e-2
    assert relative(net.weight.grad, plain_net.weight.grad.double()) < 5e-2


def test_a_gradient_scaler_skips_a_bad_step_and_training_goes_on():
    net, car = network()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
    scaler = torch.amp.GradScaler(DEVICE, init_scale=1024.0)
    for step in range(4):
        x, y = inputs_of(step)
        if step == 1:
            x[3, 0] = torch.nan
        before = net.weight.detach().clone()
        with torch.autocast(DEVICE, dtype=torch.float16):
            logits = net(x)
            loss = F.cross_entropy(logits, y) + car(logits, y)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()
        optimizer.zero_grad()
        assert loss.isnan() == (step == 1)
        assert torch.equal(net.weight, before) == (step == 1)
        assert car.ema.isfinite().all()
    assert scaler.get_scale() == 512
