"""One training in several processes, each of which computes the networks for its part of every batch.

Every process holds the whole batch, the same weights and the same random streams. A batch is divided inside the
networks alone: their callables take this process's part of the inputs, and put the outputs of all together again. So
losses, terms, views and controllers see whole batches, as in one process, and know nothing of the others. The
gradient of a weight is then this process's share, and one sum over the processes for each network completes it.

DistributedDataParallel does not support `torch.autograd.grad` (pytorch issue 47562), which every update uses.
"""

from __future__ import annotations

import itertools
import json
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from typing import Any

import numpy as np
import safetensors.torch
import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from gankit.data.batches import seed_of
from gankit.errors import UserError
from gankit.model import Networks
from gankit.training.checkpoint import apart
from gankit.training.state import on_tensors

PATIENCE = timedelta(minutes=30)  # for a process that looks at its samples, or that a network has lost
OPENING = timedelta(days=2)  # for process 0 to open the pictures


class Ranks:
    """This process among `count`: `rank` is its number from 0, and process 0 alone decides, looks and writes."""

    def __init__(self, device: str, store: dist.Store | None = None, rank: int = 0, count: int = 1) -> None:
        """Join the group of a store, or by default the one that torchrun's environment names."""
        backend = "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo"
        if store is None:
            store, rank, count = _of_torchrun()
        if rank == 0:
            store.set("opened", "")
        else:  # process 0 comes once it has opened the pictures, which may take hours the first time
            store.wait(["opened"], OPENING)
            if store.check(["over"]):
                raise Over
        dist.init_process_group(backend, store=store, rank=rank, world_size=count, timeout=PATIENCE)
        self.rank, self.count = dist.get_rank(), dist.get_world_size()

    @property
    def first(self) -> bool:
        return self.rank == 0

    # What process 0 says.

    def go_on(self, further: bool = False) -> bool:
        """Whether another step follows: what process 0 passes as `further`."""
        told = torch.tensor([further], dtype=torch.int64)
        dist.broadcast(told, 0)
        return bool(told)

    def share(self, content: bytes = b"") -> bytes:
        """The bytes that process 0 passes."""
        size = torch.tensor([len(content)])
        dist.broadcast(size, 0)
        if not self.first:
            content = bytes(int(size))
        told = torch.frombuffer(bytearray(content), dtype=torch.uint8) if content else torch.empty(0, dtype=torch.uint8)
        if content:
            dist.broadcast(told, 0)
        return told.numpy().tobytes()

    def share_knobs(self, knobs: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Process 0's values: its controllers alone are moved."""
        values = torch.stack(list(knobs.values()))
        dist.broadcast(values, 0)
        return dict(zip(knobs, values.unbind(), strict=True))

    def refuse(self, objection: str = "") -> None:
        """Raise `UserError` in process 0 if a process passes an objection."""
        own = objection.encode()[:500].ljust(500)
        told = [torch.empty(500, dtype=torch.uint8) for _ in range(self.count)]
        dist.all_gather(told, torch.frombuffer(bytearray(own), dtype=torch.uint8))
        for rank, text in enumerate(told):
            said = text.numpy().tobytes().decode(errors="replace").strip()
            if said and self.first:
                raise UserError(f"process {rank} of {self.count} cannot train: {said}")

    # Parts of a batch.

    def sizes(self, n: int) -> list[int]:
        """How many of `n` items each process takes; they differ by one at most."""
        return [n // self.count + (rank < n % self.count) for rank in range(self.count)]

    def part(self, whole: Tensor) -> Tensor:
        """This process's items."""
        sizes = self.sizes(len(whole))
        return whole.narrow(0, sum(sizes[: self.rank]), sizes[self.rank]).clone()

    def whole(self, part: Tensor, n: int) -> Tensor:
        """(n, …): the items of all processes, in their order."""
        most = math.ceil(n / self.count)
        own = part.contiguous()
        if len(own) < most:  # equal sizes for the transfer
            own = torch.cat([own, own.new_zeros(most - len(own), *own.shape[1:])])
        parts = [torch.empty_like(own) for _ in range(self.count)]
        dist.all_gather(parts, own)
        return torch.cat([items[:size] for items, size in zip(parts, self.sizes(n), strict=True)])

    def gather(self, parts: np.ndarray) -> None:
        """Fill (count * m, …) in place: process r has the items from r m to (r + 1) m."""
        each = list(torch.from_numpy(parts).chunk(self.count))
        dist.all_gather(each, each[self.rank].clone())

    def divided(self, networks: Networks, *stream: int) -> Networks:
        """The networks as callables that divide their inputs. `stream`: numbers that name the update."""
        calls = itertools.count()
        return {name: _Divided(network, self, (*stream, self.rank), calls) for name, network in networks.items()}

    def added(self, gradients: Sequence[Tensor]) -> list[Tensor]:
        """The sums of the processes' gradients, in one transfer."""
        flat = torch.cat([gradient.reshape(-1) for gradient in gradients])
        dist.all_reduce(flat)
        parts = flat.split([gradient.numel() for gradient in gradients])
        return [part.view(gradient.shape) for part, gradient in zip(parts, gradients, strict=True)]

    # The whole state, at the begin of an attempt.

    def share_state(self, told: Mapping[str, Any], tensors: Mapping[str, Mapping[str, Tensor]]) -> None:
        """Process 0 passes on a JSON object and tables of tensors."""
        self.share(json.dumps({**told, "tables": list(tensors)}).encode())
        for table in tensors.values():
            self.share(safetensors.torch.save(apart(table)))

    def receive_state(self) -> tuple[dict[str, Any], dict[str, dict[str, Tensor]]] | None:
        """The other processes' part of `share_state`; None once process 0 has ended."""
        content = self.share()
        if not content:
            return None
        told = json.loads(content)
        return told, {name: safetensors.torch.load(self.share()) for name in told["tables"]}


class _Part(torch.autograd.Function):
    """This process's part of a tensor that all hold; the gradient of the whole is put together."""

    @staticmethod
    def forward(ctx: Any, whole: Tensor, ranks: Ranks) -> Tensor:
        ctx.ranks, ctx.n = ranks, len(whole)
        return ranks.part(whole)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Whole.apply(gradients[0], ctx.ranks, ctx.n), None


class _Whole(torch.autograd.Function):
    """The parts of all put together; all then hold the same gradient, and each takes its part."""

    @staticmethod
    def forward(ctx: Any, part: Tensor, ranks: Ranks, n: int) -> Tensor:
        ctx.ranks = ranks
        return ranks.whole(part, n)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Part.apply(gradients[0], ctx.ranks), None, None


class _Sum(torch.autograd.Function):
    """The sum over the processes of something that each has its own of, such as a batch's statistics."""

    @staticmethod
    def forward(ctx: Any, own: Tensor) -> Tensor:
        total = own.clone()
        dist.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> Any:
        return _Sum.apply(gradients[0])


class _Divided:
    """A network as a callable on whole batches, of which this process computes its part."""

    def __init__(
        self, network: Callable[..., Any], ranks: Ranks, stream: tuple[int, ...], calls: Iterator[int]
    ) -> None:
        self.network, self.ranks, self.stream, self.calls = network, ranks, stream, calls
        self.module = getattr(network, "module", network)  # as `Step.redraw` looks for it

    def __call__(self, *inputs: Tensor) -> Any:
        n, ranks = len(inputs[0]), self.ranks

        def together(part: Tensor) -> Tensor:
            own = ranks.sizes(n)[ranks.rank]
            if part.ndim == 0 or len(part) != own:
                raise UserError(
                    f"a network makes a tensor of shape {tuple(part.shape)} of {own} items: several processes need one "
                    "row for each item in all that it gives; train in one process"
                )
            return _Whole.apply(part, ranks, n)

        if n < ranks.count:
            raise UserError(f"{n} items cannot be divided among {ranks.count} processes: use fewer, or a larger batch")
        parts = [_Part.apply(whole, ranks) if isinstance(whole, Tensor) and whole.ndim else whole for whole in inputs]
        device = inputs[0].device
        # Random numbers inside a network, such as dropout's, are this process's own; the common stream stays common.
        with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []), _Normalising():
            torch.manual_seed(seed_of(*self.stream, next(self.calls)))
            return on_tensors(self.network(*parts), together)


class _Normalising(TorchFunctionMode):
    """Batch normalisation by the statistics of the whole batch, whatever module asks for it."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.batch_norm:
            return _batch_norm(*args, **(kwargs or {}))
        return func(*args, **(kwargs or {}))


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`F.batch_norm` over all processes (Ioffe, Szegedy 2015, arXiv 1502.03167)."""
    if not training:
        return F.batch_norm(x, running_mean, running_var, weight, bias, training, momentum, eps)
    items = x.float()
    over = [axis for axis in range(x.ndim) if axis != 1]
    form = [1, -1] + [1] * (x.ndim - 2)
    sums = _Sum.apply(torch.cat([items.sum(over), items.new_full((1,), x.numel() / x.shape[1])]))
    count, mean = sums[-1], sums[:-1] / sums[-1]
    centred = items - mean.view(form)
    variance = _Sum.apply(centred.square().sum(over)) / count
    with torch.no_grad():
        if running_mean is not None and running_var is not None:
            running_mean.lerp_(mean.to(running_mean.dtype), momentum)
            running_var.lerp_((variance * count / (count - 1)).to(running_var.dtype), momentum)
    out = centred * (variance + eps).rsqrt().view(form)
    if weight is not None:
        out = out * weight.float().view(form)
    if bias is not None:
        out = out + bias.float().view(form)
    return out.to(x.dtype)


class Over(Exception):
    """Process 0 has found nothing left to train."""


def leave() -> None:
    """As process 0 of torchrun, let the others leave: the run is over."""
    store, _, _ = _of_torchrun()
    for name in ("over", "opened"):
        store.set(name, "")


def _of_torchrun() -> tuple[dist.Store, int, int]:
    """The store that its environment names, this process's rank, and how many there are."""
    store, rank, count = next(dist.rendezvous("env://", timeout=OPENING))
    if os.environ.get("GROUP_WORLD_SIZE") == "1":
        # After a restart torchrun keeps its store, with the addresses of the processes that are gone. On several
        # machines the counts of restarts differ.
        store = dist.PrefixStore(os.environ.get("TORCHELASTIC_RESTART_COUNT", "0"), store)
    return store, rank, count


def of_others(error: BaseException) -> bool:
    """Whether an error says that other processes are gone, and not that this one has failed by itself."""
    words = ("connection", "broken pipe", "closed", "closure", "timed out", "timeout")  # gloo's and the system's
    told = isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
    return told or isinstance(error, dist.DistError)


def started_by_torchrun() -> bool:
    """Whether torchrun, or another launcher by its environment, started several processes."""
    return "MASTER_ADDR" in os.environ and "RANK" in os.environ and int(os.environ.get("WORLD_SIZE", "1")) > 1
