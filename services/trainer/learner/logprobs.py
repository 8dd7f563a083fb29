"""Log-probabilities of response tokens under a policy, exact and with the least forward work.

Sequences are padded on the right and attention is causal, so no real token sees a pad and no mask is needed; what comes
after the body runs on response positions only; equal sequences are forwarded once (`gigpo_core.plan_micro_batches`).
Where many begin alike, each beginning is forwarded once too, in a tree (`prefixes`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from transformers import PreTrainedModel

from gigpo_core import MicroBatch
from services.contracts.learner_memory import HEAD_ELEMENTS
from services.trainer.learner.prefixes import MASK_TOKENS, SAVING, forward_cost, prefix_tree
from services.trainer.learner.ranks import ALONE, Ranks
from services.trainer.learner.tempered import Entropy, TemperedPolicy, Wanted
from services.trainer.learner.token_rows import TokenRows, spans


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from the CPU by pinned memory, so that the host goes on while a device still computes."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Scorer:
    """A model seen as the distribution that was sampled from: softmax(logits / temperature), over the tokens that a
    row's turn allows where it is restricted."""

    model: PreTrainedModel
    temperature: float
    token_budget: int
    """Padded tokens of one forward pass."""
    autocast: bool = False
    """Multiply in bfloat16, keep weights in float32."""
    head_elements: int = HEAD_ELEMENTS
    ranks: Ranks = ALONE
    trees: int = 0
    """Sequences that begin alike may share a forward of their beginning: the model's `balance_of`; 0: they may not."""

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self.ranks.device_of(self.model)

    def share(self, rows: TokenRows, group: Tensor | None = None) -> Tensor:
        """int64 [M], ascending: the rows that this rank forwards.

        Args:
            group: see `TokenRows.plan`.
        """
        trees = self.ranks.number > 1 and any(micro.tree for micro in self.plan(rows, group))
        return self.ranks.share(rows, group, trees=trees)

    def plan(self, rows: TokenRows, group: Tensor | None = None) -> list[MicroBatch]:
        """The micro-batches of these rows: as trees where that saves enough, otherwise padded.

        Args:
            group: see `TokenRows.plan`.
        """
        padded = rows.plan(self.token_budget, group)
        if not self.trees or len(rows.turns) < 2:
            return padded
        longest = max(turn.stop for turn in rows.turns)
        trees = rows.plan(min(self.token_budget, max(min(MASK_TOKENS, self.trees), longest)), group, "tree")
        cheaper = SAVING * forward_cost(trees, self.trees) <= forward_cost(padded, self.trees)
        return trees if cheaper else padded

    @torch.no_grad()
    def constants(self, rows: TokenRows, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of every response token, on the CPU, without gradients."""
        column = torch.zeros(rows.tokens)
        spreads = None if entropy == "skip" else torch.zeros(rows.tokens)
        mine = self.share(rows)
        part = rows.select(mine)
        for micro in self.ranks.rounds(self.plan(part)):
            if micro is None:
                self.idle()
                continue
            logprob, spread = self.score(part, micro, entropy)
            at = rows.places(mine[micro.row])
            column[at] = logprob.cpu()
            if spreads is not None and spread is not None:
                spreads[at] = spread.cpu()
        return self.ranks.total(column), None if spreads is None else self.ranks.total(spreads)

    def idle(self) -> Tensor:
        """A forward that the other ranks wait for, of a rank that has no rows left: 0, with a gradient of 0."""
        ids = torch.zeros(1, 2, dtype=torch.int64, device=self.device)
        logprob: Tensor = self.policy(Wanted(ids, ids.new_zeros(1), ids.new_ones(1)), "skip")[0]
        return logprob.sum() * 0.0

    def score(self, rows: TokenRows, micro: MicroBatch, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of the tokens of `micro`'s rows, on the model's device."""
        device = self.device
        parts = _wanted(rows, micro)._asdict().items()
        wanted = Wanted(**{name: on_device(part, device) for name, part in parts if part is not None})
        micro = replace(micro, token_index=on_device(micro.token_index, device))
        logprob, spread = self.policy(wanted, entropy)
        return micro.gather(logprob), None if spread is None else micro.gather(spread)

    @cached_property
    def policy(self) -> TemperedPolicy:
        """The module whose forward gives what the loss needs.

        Raises:
            LearnerError: see `Parts`.
        """
        return TemperedPolicy(self.model, self.temperature, autocast=self.autocast, head_elements=self.head_elements)


def _wanted(rows: TokenRows, micro: MicroBatch) -> Wanted:
    """The response tokens of a micro-batch's spans, on the CPU."""
    sequences = [rows.ids[row][: rows.turns[row].stop] for row in micro.sequence_row.tolist()]
    start, length = rows.prompt_length[micro.span_row], rows.response_length[micro.span_row]
    allowed = rows.allowed(micro.span_row.tolist())
    if not micro.tree:
        ids = pad_sequence(sequences, batch_first=True)
        target = spans(micro.span_sequence * ids.shape[1] + start, length)
        return Wanted(ids, target - 1, target, allowed)
    tree = prefix_tree(sequences)
    begin = torch.tensor([0, *(len(path) for path in tree.paths)]).cumsum(0)[micro.span_sequence]
    at, paths = spans(begin + start, length), torch.cat(tree.paths)
    return Wanted(tree.ids, paths[at - 1], paths[at], allowed, tree.positions, tree.mask)
