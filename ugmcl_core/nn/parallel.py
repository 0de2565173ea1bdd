"""One training over several processes, as torchrun starts them: its ranks, sums and averages.

Every rank makes its part of the same global batch. Sums that a loss divides go through `total`,
so the loss of every rank is the one of the whole batch; its gradients are then averaged over the
ranks. In a single process all of this does nothing.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from datetime import timedelta

import torch
from torch import Tensor, distributed, nn

from ..errors import InputError
from . import devices

_PATIENCE = timedelta(hours=12)  # the others wait while rank 0 evaluates; torchrun handles crashes


def launched() -> int:
    """Number of processes that torchrun started for this training; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def size() -> int:
    """Number of processes that take part."""
    joined = distributed.is_available() and distributed.is_initialized()
    return distributed.get_world_size() if joined else 1


def rank() -> int:
    """This process's number; 0 writes, prints and evaluates."""
    return distributed.get_rank() if size() > 1 else 0


def neighbors() -> int:
    """Number of processes of this training on this machine, itself included."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1")) if size() > 1 else 1


def nodes() -> int:
    """Approximate number of machines that torchrun started this training on; 1 without it."""
    return -(-launched() // int(os.environ.get("LOCAL_WORLD_SIZE", "1")))


@contextlib.contextmanager
def taking_part(device: str) -> Iterator[torch.device]:
    """Join the other processes that torchrun started, if any, and leave them at the end; yields
    this process's device: ``device``, or the GPU of its local rank.

    gloo on the CPU, NCCL on CUDA; InputError for other devices, and if the others do not join.
    """
    if launched() == 1:
        yield devices.resolve(device)
        return
    if not distributed.is_available():
        raise InputError("this build of PyTorch cannot train over several processes")
    if device == "cuda" or (device == "auto" and torch.cuda.is_available()):
        device = f"cuda:{os.environ.get('LOCAL_RANK', '0')}"
    elif device not in ("auto", "cpu"):
        raise InputError(f"device {device!r} with several processes: use auto, cuda or cpu")
    own = devices.resolve("cpu" if device == "auto" else device)
    if own.type == "cuda":
        torch.cuda.set_device(own)
    try:
        distributed.init_process_group("nccl" if own.type == "cuda" else "gloo", timeout=_PATIENCE)
    except (RuntimeError, ValueError) as error:
        raise InputError(
            f"the processes of this training cannot find each other ({error}); "
            "start them with torchrun"
        ) from error
    try:
        yield own
    except RuntimeError as error:
        if "by peer" not in str(error) and not isinstance(error, distributed.DistBackendError):
            raise
        raise InputError("another process of this training ended; its message says why") from error
    finally:
        distributed.destroy_process_group()


class _Total(torch.autograd.Function):
    """Σ over ranks. Every rank goes on with the same sum, so the gradient of the ranks' mean loss
    with respect to the summand is ``size`` times the one of this rank's loss."""

    @staticmethod
    def forward(ctx, value: Tensor) -> Tensor:
        value = value.clone()
        distributed.all_reduce(value)
        return value

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        return gradient * size()


def total(value: Tensor) -> Tensor:
    """The sum of ``value`` over the ranks; differentiable."""
    return value if size() == 1 else _Total.apply(value)


def average(tensors: Iterable[Tensor]) -> None:
    """Replace the tensors by their means over the ranks, in one exchange."""
    if size() == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([t.detach().float().flatten() for t in tensors])
    distributed.all_reduce(flat)
    parts = (flat / size()).split([t.numel() for t in tensors])
    with torch.no_grad():
        for tensor, part in zip(tensors, parts, strict=True):
            tensor.copy_(part.view_as(tensor))


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """Gradients of the loss of the whole batch, from those of every rank's part of it."""
    average(p.grad for p in parameters if p.grad is not None)


def average_statistics(network: nn.Module) -> None:
    """One set of batch-norm statistics: on the CPU every rank has those of its own samples."""
    average(b for b in network.buffers() if b.is_floating_point())


def with_shared_statistics(network: nn.Module, device: torch.device) -> nn.Module:
    """``network`` with batch norm over the samples of all ranks, where torch has that: on CUDA."""
    if size() == 1 or device.type != "cuda":
        return network
    return nn.SyncBatchNorm.convert_sync_batchnorm(network)


def equal_start(network: nn.Module) -> None:
    """Give every rank the parameters and buffers of rank 0."""
    if size() > 1:
        for tensor in (*network.parameters(), *network.buffers()):
            distributed.broadcast(tensor.detach(), 0)


def anywhere(stopping: bool, device: torch.device) -> bool:
    """Whether ``stopping`` is true on any rank: if one stops, all do."""
    if size() == 1:
        return stopping
    flag = torch.tensor([float(stopping)], device=device)
    distributed.all_reduce(flag)
    return bool(flag.item() > 0)


def agree(number: int, device: torch.device, what: str) -> None:
    """InputError unless ``number`` is the same on every rank."""
    if size() == 1:
        return
    values = torch.tensor([float(number), -float(number)], device=device)
    distributed.all_reduce(values, distributed.ReduceOp.MAX)
    if values.sum().item() != 0:
        raise InputError(f"the processes have different {what}: use a folder that all of them see")


def part(count: int, name: str = "samples") -> range:
    """Which of the ``count`` samples of the global batch this rank makes; InputError if they
    cannot be divided equally among the ranks."""
    each, rest = divmod(count, size())
    if rest:
        raise InputError(
            f"{count} {name} a step cannot be divided by {size()} processes: "
            "give --batch LABELED+UNLABELED, both multiples of it"
        )
    return range(rank() * each, (rank() + 1) * each)
