"""One rank of data-parallel updates, one for each loss: `python rank_process.py RANK WORLD RENDEZVOUS OUT`.

A small linear policy scores the tokens of this rank's rows; totals and gradients are summed over the group.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import get_args

import torch
import torch.distributed as dist
from safetensors.torch import save_file

from gigpo_core import BatchTotals, LossConfig, TokenBatch, batch_totals, policy_objective
from gigpo_core.loss_config import LossType

ROWS, FEATURES, VOCABULARY = 7, 5, 11
LENGTHS = torch.tensor([3, 1, 4, 2, 6, 1, 5])
GROUPS = torch.tensor([0, 0, 0, 1, 1, 1, 1])


def rows_of_rank(rank: int, world: int) -> torch.Tensor:
    """Uneven shares of whole groups: rank 0 gets group 0, the last rank the rest, any other nothing."""
    if world == 1:
        return torch.arange(ROWS)
    owner = torch.where(GROUPS == 0, 0, world - 1)
    return (owner == rank).nonzero()[:, 0]


def gradient(rows: torch.Tensor, loss_type: LossType, reduce: bool) -> tuple[torch.Tensor, torch.Tensor]:
    """(gradient of the policy's weight, loss) of the whole batch, each float64, from the shares of all ranks."""
    generator = torch.Generator().manual_seed(7)
    weight = torch.randn(FEATURES, VOCABULARY, generator=generator, dtype=torch.float64).requires_grad_()
    tokens = int(LENGTHS.sum())
    features = torch.randn(tokens, FEATURES, generator=generator, dtype=torch.float64)
    sampled = torch.randint(VOCABULARY, (tokens,), generator=generator)
    noise = 0.3 * torch.randn(tokens, generator=generator, dtype=torch.float64)
    advantage = torch.randn(ROWS, generator=generator, dtype=torch.float64)
    row_of_token = torch.repeat_interleave(torch.arange(ROWS), LENGTHS)
    mine = torch.isin(row_of_token, rows)
    log_prob = torch.log_softmax(features[mine] @ weight, -1).gather(1, sampled[mine, None])[:, 0]
    local_row = torch.searchsorted(rows, row_of_token[mine])
    batch = TokenBatch(
        log_prob=log_prob,
        old_log_prob=(log_prob + noise[mine]).detach(),
        token_row=local_row,
        advantage=advantage[rows],
        row_group=GROUPS[rows],
    )
    own = batch_totals(local_row, len(rows), row_group=GROUPS[rows])
    sums = torch.tensor([own.rows, own.tokens, own.groups], dtype=torch.float64)
    if reduce:
        dist.all_reduce(sums)
    config = LossConfig(loss_type=loss_type, epsilon_high=5.0 if loss_type == "cispo" else None)
    share = policy_objective(batch, config, BatchTotals(*sums.tolist())).loss
    share.backward()
    total, loss = weight.grad, share.detach().clone()
    assert total is not None
    if reduce:
        dist.all_reduce(total)
        dist.all_reduce(loss)
    return total, loss


def main(rank: int, world: int, rendezvous: str, out: Path) -> None:
    """Take part in an update with each loss and write what this rank holds in the end."""
    dist.init_process_group("gloo", init_method=f"file://{rendezvous}", rank=rank, world_size=world)
    for loss_type in get_args(LossType):
        total, loss = gradient(rows_of_rank(rank, world), loss_type, reduce=True)
        save_file({"gradient": total, "loss": loss}, out / f"{loss_type}-{rank}.safetensors")
    dist.destroy_process_group()


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], Path(sys.argv[4]))
