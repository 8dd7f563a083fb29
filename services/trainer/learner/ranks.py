"""The ranks of one learner: processes that hold a part of every weight each, and forward a part of the rows each.

Sharding is PyTorch's FSDP2: inside a policy's forward the weights are whole, outside of it each rank has its piece.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor
from transformers import PreTrainedModel
from transformers.modeling_layers import GradientCheckpointingLayer

from gigpo_core import MicroBatch
from services.contracts.learner_memory import Offload, RankCount
from services.trainer.learner.tempered import TemperedPolicy
from services.trainer.learner.token_rows import TokenRows


@dataclass(frozen=True)
class Ranks:
    """This process among those that train one policy; every method is to be called by all of them alike."""

    number: int = 1
    mine: int = 0
    """0 .. number - 1; 0 writes the files."""
    mesh: DeviceMesh | None = None
    """None: one process holds everything."""
    offload: Offload = "none"

    @property
    def leads(self) -> bool:
        """Whether this one writes the files."""
        return self.mine == 0

    @property
    def count(self) -> RankCount:
        """The numbers that decide how much memory one of them needs."""
        return RankCount(self.number, self.number if self.mesh is None else self.mesh.shape[-1], self.offload)

    def device_of(self, model: PreTrainedModel) -> torch.device:
        """The device that computes; weights may wait elsewhere."""
        if self.mesh is None or self.mesh.device_type == "cpu":
            return model.device
        return torch.device(self.mesh.device_type, torch.cuda.current_device())

    def share(self, rows: TokenRows, group: Tensor | None = None, *, trees: bool = False) -> Tensor:
        """int64 [M], ascending: the rows that this rank forwards. See `dealt`."""
        if self.mesh is None:
            return torch.arange(len(rows.turns))
        return dealt(rows, self.number, group, trees=trees)[self.mine]

    def rounds(self, plan: Sequence[MicroBatch]) -> Iterator[MicroBatch | None]:
        """This rank's micro-batches, then None for each that another rank has more: all run the same number."""
        most = torch.tensor(len(plan))
        if self.mesh is not None:
            dist.all_reduce(most, dist.ReduceOp.MAX)  # comes before the first forward, which waits for the other ranks
        yield from plan
        yield from [None] * (int(most) - len(plan))

    def total(self, part: Tensor) -> Tensor:
        """The sum over the ranks of a tensor on the CPU."""
        if self.mesh is not None:
            dist.all_reduce(part)
        return part

    def shard(self, policy: TemperedPolicy, *, bfloat16: bool, trained: bool) -> None:
        """Leave this rank its piece of every weight; gradients are added over the ranks, in float32.

        Args:
            bfloat16: inside the forward the weights are bfloat16.
            trained: False: it is the reference.
        """
        if self.mesh is None:
            return
        inside = torch.bfloat16 if bfloat16 else None
        precision = MixedPrecisionPolicy(param_dtype=inside, reduce_dtype=torch.float32, cast_forward_inputs=False)
        away = self.offload == "all" or (self.offload == "reference" and not trained)
        place = CPUOffloadPolicy(pin_memory=torch.cuda.is_available()) if away else OffloadPolicy()
        layers = [module for module in policy.modules() if isinstance(module, GradientCheckpointingLayer)]
        for module in (*layers, policy):
            sharded = fully_shard(
                module, mesh=self.mesh, reshard_after_forward=True, mp_policy=precision, offload_policy=place
            )
            assert isinstance(sharded, FSDPModule)
            sharded.set_gradient_divide_factor(1.0)  # a loss is divided by totals already
            sharded.set_force_sum_reduction_for_comms(True)
        register_fsdp_forward_method(policy, "next_logits")


ALONE = Ranks()


def joined(shard_ranks: int, offload: Offload = "none") -> Ranks:
    """The ranks of the group of processes that torchrun started; alone where there is none.

    Args:
        shard_ranks: so many share one copy of the states; the copies are kept equal.
    """
    if not dist.is_initialized():
        return ALONE
    number, device = dist.get_world_size(), "cuda" if torch.cuda.is_available() else "cpu"
    shape: tuple[int, ...] = (number,)
    names: tuple[str, ...] = ("shard",)
    if shard_ranks < number:
        shape, names = (number // shard_ranks, shard_ranks), ("copy", "shard")
    return Ranks(number, dist.get_rank(), init_device_mesh(device, shape, mesh_dim_names=names), offload)


TREES_EACH = 4
"""Trees that a rank gets of a batch: more are dealt more evenly, fewer share more."""


def dealt(rows: TokenRows, number: int, group: Tensor | None = None, *, trees: bool = False) -> list[Tensor]:
    """A partition of the rows into `number` parts, some perhaps empty, with nearly equally many tokens to forward.

    Equal rows come into one part, and so do the rows of a group. A pure function: every rank computes the same.

    Args:
        group: int64 [N], as in `TokenRows.plan`.
        trees: rows that begin alike come into one part too, and each beginning counts once.
    """
    units = rows.plan(1, group)
    if trees:
        total = sum(unit.forward_tokens for unit in rows.plan(rows.forwarded, group, "tree"))
        units = rows.plan(max(total // (TREES_EACH * number), 1), group, "tree")
    parts: list[list[Tensor]] = [[] for _ in range(number)]
    loads = [0] * number
    for unit in sorted(units, key=lambda unit: -unit.forward_tokens):
        least = loads.index(min(loads))
        parts[least].append(unit.row)
        loads[least] += unit.forward_tokens
    empty = torch.zeros(0, dtype=torch.int64)
    return [torch.cat([empty, *part]).sort().values for part in parts]


def whole(tensor: Tensor) -> Tensor:
    """All of a tensor of which this rank may hold a piece; constant."""
    constant = tensor.detach()
    return constant.full_tensor() if isinstance(constant, DTensor) else constant


def gathered(tensors: Mapping[str, Tensor], *, keep: bool) -> dict[str, Tensor]:
    """The whole of each, on the CPU, one after the other; the same tensor twice gives the same one.

    Args:
        keep: False: take part and get nothing.
    """
    found: dict[str, Tensor] = {}
    once: dict[int, Tensor] = {}
    for name, tensor in tensors.items():
        if id(tensor) not in once:
            full = whole(tensor).cpu().contiguous()
            once[id(tensor)] = full if keep else full.new_empty(0)
        found[name] = once[id(tensor)]
    return found if keep else {}


def piece(tensor: Tensor, weight: Tensor) -> Tensor:
    """This rank's part of a whole tensor that is laid out as `weight` is."""
    if not isinstance(weight, DTensor):
        return tensor.to(weight.device)
    return distribute_tensor(tensor.to(weight.device), weight.device_mesh, weight.placements, src_data_rank=None)


@torch.no_grad()
def copy_weights(source: Iterable[Tensor], target: Iterable[Tensor]) -> None:
    """Make the second policy's weights those of the first; both are sharded alike."""
    for one, other in zip(source, target, strict=True):
        other.copy_(one)
