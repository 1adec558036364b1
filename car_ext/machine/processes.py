"""One job on many processes: who this one is, and what they send one another."""

import contextlib
import os
import signal
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.rendezvous import rendezvous

from car_ext.errors import InputError

PATIENCE = timedelta(hours=1)  # while the first process writes and counts, the others wait for it
FAILED = "car_ext/failed"  # key of the store that counts the processes that failed
T = TypeVar("T")


class Processes:
    """The processes of a job, each on a device of its own. They take a batch apart and put it together again.

    Every process calls the same methods in the same order. Alone, nothing is sent.

    Attributes:
        rank: of this process, 0 .. size - 1.
        size: how many there are.
    """

    def __init__(self, rank: int = 0, size: int = 1) -> None:
        self.rank, self.size = rank, size

    @property
    def first(self) -> bool:
        """Whether this is the one that writes and speaks."""
        return self.rank == 0

    def part(self, items: Sequence[T]) -> Sequence[T]:
        """What this process takes of a batch: as even parts as can be, one after another.

        A process for which nothing is left takes the first item, as layers and collectives want one; `gather` leaves
        it out.
        """
        first, last = self._bounds(len(items), self.rank)
        return items[first:last] or items[:1]

    def gather(self, own: Tensor, total: int) -> Tensor:
        """The rows (total, ...) of all processes, each of which gives those of its `part` of so many.

        Differentiable where every process goes on with the same computation on the result. The gradient is then that
        of this process's rows times the number of processes, by which `DistributedDataParallel` divides the sum.
        """
        if self.size == 1:
            return own
        first, last = self._bounds(total, self.rank)
        return _Gather.apply(own[: last - first], self, total)

    def rows(self, own: Tensor, order: Tensor) -> Tensor:
        """This process's part of the rows `order` (total,) of a batch of which it holds the part `own`.

        `order` is a permutation, the same on every process; only the rows that are asked for are sent.
        """
        if self.size == 1:
            return own[order.to(own.device)]
        total, order = len(order), order.cpu()
        bounds = [self._bounds(total, rank) for rank in range(self.size)]
        first, last = bounds[self.rank]
        wanted = [order[begin:end] for begin, end in bounds]
        mine = [rows[(rows >= first) & (rows < last)] - first for rows in wanted]
        asked = wanted[self.rank]
        owners = [torch.nonzero((asked >= begin) & (asked < end))[:, 0] for begin, end in bounds]
        found = own.new_empty(len(asked), *own.shape[1:])
        sent = own[torch.cat(mine).to(own.device)]
        dist.all_to_all_single(found, sent, [*map(len, owners)], [*map(len, mine)])
        result = torch.empty_like(found)
        result[torch.cat(owners).to(own.device)] = found
        return result if len(asked) else own[:1]

    def of_first(self, make: Callable[[], T]) -> T:
        """What `make` gives on the first process, on all of them; anything that pickles."""
        if self.size == 1:
            return make()
        box: list[Any] = [make() if self.first else None]
        dist.broadcast_object_list(box, 0, device=torch.device("cpu"))
        return box[0]

    def tensors_of_first(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The tensors of the first process, on the CPU, on all of them; what others give is not looked at."""
        if self.size == 1:
            return dict(tensors)
        forms = self.of_first(lambda: {name: (one.shape, one.dtype) for name, one in tensors.items()})
        found = {}
        for name, (shape, dtype) in forms.items():
            found[name] = tensors[name].cpu() if self.first else torch.empty(shape, dtype=dtype)
            dist.broadcast(found[name], 0)
        return found

    def average_(self, tensors: Iterable[Tensor]) -> None:
        """Makes each tensor the mean of those of all processes, in place."""
        if self.size > 1:
            for tensor in tensors:
                dist.all_reduce(tensor)
                tensor /= self.size

    @contextlib.contextmanager
    def one_first(self) -> Iterator[None]:
        """For what fetches or prepares a file: on each machine one process goes ahead of the others."""
        ahead = local_rank() == 0
        if self.size > 1 and not ahead:
            self.wait()
        yield
        if self.size > 1 and ahead:
            self.wait()

    def wait(self) -> None:
        """Until all are here."""
        if self.size > 1:
            dist.all_reduce(torch.zeros(1))

    def _bounds(self, total: int, rank: int) -> tuple[int, int]:
        return total * rank // self.size, total * (rank + 1) // self.size

    def _all(self, own: Tensor, total: int) -> Tensor:
        padded = own.new_zeros(-(-total // self.size), *own.shape[1:])
        padded[: len(own)] = own
        found = [torch.empty_like(padded) for _ in range(self.size)]
        dist.all_gather(found, padded)
        sizes = [last - first for first, last in (self._bounds(total, rank) for rank in range(self.size))]
        return torch.cat([rows[:size] for rows, size in zip(found, sizes, strict=True)])


ALONE = Processes()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, own: Tensor, processes: Processes, total: int) -> Tensor:
        ctx.bounds, ctx.size = processes._bounds(total, processes.rank), processes.size
        return processes._all(own, total)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None, None]:
        return gradients[0][slice(*ctx.bounds)] * ctx.size, None, None


def started() -> int:
    """How many processes a launcher says that it has started; 1 without one.

    Raises:
        InputError: `WORLD_SIZE` is no number.
    """
    size = os.environ.get("WORLD_SIZE") or "1"
    if not size.isdecimal():
        raise InputError(f"WORLD_SIZE is {size!r}, but must be a number; start the job with torchrun, or unset it.")
    return max(int(size), 1)


def refuse_many(what: str) -> None:
    """Refuse to be one of several processes that a launcher started, where each would do the same.

    Args:
        what: does this.

    Raises:
        InputError: a launcher says that there are several.
    """
    if (size := started()) > 1:
        raise InputError(
            f"WORLD_SIZE is {size}, but {what} is one process; start it without torchrun, or unset WORLD_SIZE."
        )


def leads() -> bool:
    """Whether this is the first of a launcher's processes, or the only one: that which speaks to the user."""
    return (os.environ.get("RANK") or "0") == "0"


def local_rank() -> int:
    """Which of the processes of this machine this is."""
    return int(os.environ.get("LOCAL_RANK") or 0)


def local_device(name: str, size: int) -> str:
    """The device that `name` means for one of `size` processes: of several, each has the GPU of its number.

    Raises:
        InputError: there are fewer GPUs than processes here, or all processes are to use the same.
    """
    if size == 1 or name == "cpu" or (name == "auto" and not torch.cuda.is_available()):
        return name
    if name not in ("auto", "cuda"):
        raise InputError(f"--device is {name}, but each of the {size} processes takes the GPU of its number; use auto.")
    index, gpus = local_rank(), torch.cuda.device_count()
    if index >= gpus:
        raise InputError(
            f"there are more processes on this machine than its {gpus} GPUs; use --nproc-per-node {gpus}, "
            "or --device cpu."
        )
    torch.cuda.set_device(index)
    return f"cuda:{index}"


@contextlib.contextmanager
def joined(device: str) -> Iterator[Processes]:
    """The processes that a launcher such as torchrun has started, as one job; `ALONE` without a launcher.

    They talk over NCCL where `device` is a GPU, else over gloo. A process group that is there already is used and left.

    An error ends all of them, and one speaks: the first that fails. The `InputError` of every other one has `silent`.

    Args:
        device: as of `local_device`.

    Raises:
        InputError: as the body raises it; another process died; a launcher that does not say where the others are.
    """
    if dist.is_initialized():
        yield Processes(dist.get_rank(), dist.get_world_size())
        return
    size = started()
    if size == 1:
        yield ALONE
        return
    on_cuda = local_device(device, size).startswith("cuda")
    try:
        store, rank, size = next(rendezvous("env://", timeout=PATIENCE))
    except ValueError as error:  # an environment without addresses
        raise InputError(
            f"WORLD_SIZE is {size}, but nothing says where the other processes are ({error}); start the job with "
            "torchrun, or unset WORLD_SIZE."
        ) from error
    store = _fresh(store, rank, size)
    backend = "cpu:gloo,cuda:nccl" if on_cuda else "gloo"
    dist.init_process_group(backend, store=store, rank=rank, world_size=size, timeout=PATIENCE)
    try:
        with _ended_by_launcher(size), _quiet(rank):
            yield Processes(rank, size)
            Processes(rank, size).wait()
    except BaseException as error:
        silent = _failed_before(store)
        told = _lost(size) if _is_of_connection(error) else error
        if isinstance(told, InputError):
            told.silent = silent
        if not on_cuda:  # NCCL would wait for the others
            dist.destroy_process_group()
        if told is error:
            raise
        raise told from error
    dist.destroy_process_group()


def _fresh(store: Any, rank: int, size: int) -> dist.PrefixStore:
    """A part of a launcher's store that these processes have for themselves.

    torchrun gives processes that it starts again the store of those before them, in which addresses of the dead would
    be taken for those of the living. A count of restarts does not tell them apart: machines count for themselves. So
    each process comes with a name that nobody had before, and the first answers to it.
    """
    own = uuid.uuid4().hex
    if rank:
        store.set(f"car_ext/came/{rank}", own)
        name = store.get(f"car_ext/answer/{own}").decode()
        store.set(f"car_ext/{name}/{rank}", own)
        return dist.PrefixStore(name, store)
    missing, end = set(range(1, size)), time.monotonic() + PATIENCE.total_seconds()
    while missing:
        for other in missing:
            if store.check([came := f"car_ext/came/{other}"]):  # or one of that number that is dead by now
                store.set(f"car_ext/answer/{store.get(came).decode()}", own)
        missing = {other for other in missing if not store.check([f"car_ext/{own}/{other}"])}
        if time.monotonic() > end:
            raise InputError(f"of {size} processes {len(missing)} did not come; start the job again.")
        time.sleep(0.02)
    return dist.PrefixStore(own, store)


def _lost(size: int) -> InputError:
    return InputError(
        f"one of the {size} processes of this job has died, most likely for want of memory, or its launcher has ended "
        "it; what is written stays: start it again with --resume."
    )


def _is_of_connection(error: BaseException) -> bool:
    words = ("gloo", "connection", "nccl")
    is_torch = isinstance(error, RuntimeError) and not isinstance(error, torch.OutOfMemoryError)
    return is_torch and any(word in str(error).lower() for word in words)


def _failed_before(store: Any) -> bool:
    """Whether another process has failed before this one, which is noted."""
    try:
        return bool(store.add(FAILED, 1) > 1)
    except RuntimeError:  # the launcher is gone
        return False


@contextlib.contextmanager
def _quiet(rank: int) -> Iterator[None]:
    """Warnings of the first process only, and not that a gradient of one channel has strides of its own."""
    with warnings.catch_warnings():
        if rank:
            warnings.simplefilter("ignore")
        warnings.filterwarnings("ignore", "Grad strides do not match")
        yield


@contextlib.contextmanager
def _ended_by_launcher(size: int) -> Iterator[None]:
    """A launcher ends the others where one has died: that is told as their connections would tell it."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def end(*_: object) -> None:
        raise _lost(size)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
