"""Log-probabilities of response tokens under a policy, exact and with the least forward work.

Sequences are padded on the right and attention is causal, so no real token sees a pad and no mask is needed; what comes
after the body runs on response positions only; equal sequences are forwarded once (`gigpo_core.plan_micro_batches`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from gigpo_core import MicroBatch, Turn, plan_micro_batches
from services.trainer.learner.parts import Parts

Entropy = Literal["skip", "value", "gradient"]
"""Whether the entropy is computed, and whether it carries a gradient."""

HEAD_ELEMENTS = 1 << 28
"""Most logits held at once (1 GiB in float32); more are recomputed in the backward pass, part by part."""


@dataclass(frozen=True)
class TokenRows:
    """N rows' tokens. Flat columns over their T response tokens stand row after row."""

    turns: Sequence[Turn]

    @cached_property
    def ids(self) -> list[Tensor]:
        """int64 [L] of each row's sequence; rows of one conversation have one tensor."""
        made: dict[int, Tensor] = {}
        for turn in self.turns:
            if id(turn.ids) not in made:
                made[id(turn.ids)] = torch.tensor(turn.ids)
        return [made[id(turn.ids)] for turn in self.turns]

    @cached_property
    def prompt_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([turn.start for turn in self.turns], dtype=torch.int64)

    @cached_property
    def response_length(self) -> Tensor:
        """int64 [N]."""
        return torch.tensor([turn.stop - turn.start for turn in self.turns], dtype=torch.int64)

    @cached_property
    def token_row(self) -> Tensor:
        """int64 [T]: the row of each response token."""
        return torch.repeat_interleave(torch.arange(len(self.turns)), self.response_length)

    @cached_property
    def conversation(self) -> Tensor | None:
        """int64 [N]: rows with one number share a sequence; None: each row stands alone."""
        numbers: dict[int, int] = {}
        column = [numbers.setdefault(id(turn.ids), len(numbers)) for turn in self.turns]
        places = {(number, turn.start) for number, turn in zip(column, self.turns, strict=True)}
        return torch.tensor(column) if len(numbers) < len(places) else None

    @property
    def different(self) -> int:
        """How many rows differ in prompt or response."""
        numbers: dict[tuple[int, ...], int] = {}
        known = {id(turn.ids): turn.ids for turn in self.turns}
        number = {name: numbers.setdefault(ids, len(numbers)) for name, ids in known.items()}
        return len({(number[id(turn.ids)], turn.start, turn.stop) for turn in self.turns})

    @property
    def tokens(self) -> int:
        """T."""
        return len(self.token_row)

    def select(self, rows: Tensor) -> TokenRows:
        """These rows alone, in the order of `rows` int64 [M]."""
        chosen = rows.tolist()
        part = TokenRows([self.turns[row] for row in chosen])
        part.__dict__["ids"] = [self.ids[row] for row in chosen]  # fills the cached property: no second conversion
        return part

    def places(self, rows: Tensor) -> Tensor:
        """int64: where the response tokens of these rows stand in this flat column, row after row."""
        first = (torch.cumsum(self.response_length, 0) - self.response_length)[rows]
        return spans(first, self.response_length[rows])

    def plan(self, token_budget: int, group: Tensor | None = None) -> list[MicroBatch]:
        """Micro-batches of sequences of like length, each different one once.

        Args:
            group: int64 [N]: rows of one group share a micro-batch, whatever the budget; None: they need not.
        """
        return plan_micro_batches(
            self.turns,
            token_budget=token_budget,
            layout="padded",
            row_group=None if group is None else group.tolist(),
        )


def spans(first: Tensor, length: Tensor) -> Tensor:
    """first[0], first[0] + 1, ... (length[0] numbers), then the same from first[1], and so on: int64 [sum(length)]."""
    owner = torch.repeat_interleave(torch.arange(len(length)), length)
    return torch.arange(len(owner)) - (torch.cumsum(length, 0) - length - first)[owner]


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; from the CPU by pinned memory, so that the host goes on while a device still computes."""
    if device.type != "cuda" or tensor.is_cuda:
        return tensor.to(device)
    return tensor.pin_memory().to(device, non_blocking=True)


@dataclass(frozen=True)
class Scorer:
    """A model seen as the distribution that was sampled from: softmax(logits / temperature)."""

    model: PreTrainedModel
    temperature: float
    token_budget: int
    """Padded tokens of one forward pass."""
    autocast: bool = False
    """Multiply in bfloat16, keep weights in float32."""
    head_elements: int = HEAD_ELEMENTS

    @torch.no_grad()
    def constants(self, rows: TokenRows, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of every response token, on the CPU, without gradients."""
        column = torch.empty(rows.tokens)
        spreads = None if entropy == "skip" else torch.empty(rows.tokens)
        for micro in rows.plan(self.token_budget):
            logprob, spread = self.score(rows, micro, entropy)
            at = rows.places(micro.row)
            column[at] = logprob.cpu()
            if spreads is not None and spread is not None:
                spreads[at] = spread.cpu()
        return column, spreads

    def score(self, rows: TokenRows, micro: MicroBatch, entropy: Entropy = "skip") -> tuple[Tensor, Tensor | None]:
        """(log-probability, entropy in nats) float32 [T] of the tokens of `micro`'s rows, on the model's device."""
        device = self.model.device
        ends = [(row, rows.turns[row].stop) for row in micro.sequence_row.tolist()]
        ids = pad_sequence([rows.ids[row][:stop] for row, stop in ends], batch_first=True)
        length = rows.response_length[micro.span_row]
        first = micro.span_sequence * ids.shape[1] + rows.prompt_length[micro.span_row]
        target_at = on_device(spans(first, length), device)
        ids = on_device(ids, device)
        micro = replace(micro, token_index=on_device(micro.token_index, device))
        with torch.autocast(self.model.device.type, torch.bfloat16, enabled=self.autocast):
            hidden = self.parts.hidden(ids).flatten(0, 1).index_select(0, target_at - 1)
            logprob, spread = self._head(hidden, ids.flatten().index_select(0, target_at), entropy)
        return micro.gather(logprob), None if spread is None else micro.gather(spread)

    @cached_property
    def parts(self) -> Parts:
        """The model's body and the rest of it.

        Raises:
            LearnerError: see `Parts`.
        """
        return Parts(self.model)

    def _head(self, hidden: Tensor, target: Tensor, entropy: Entropy) -> tuple[Tensor, Tensor | None]:
        parts = -(-len(hidden) * int(self.model.config.get_text_config().vocab_size) // self.head_elements)
        if parts <= 1:
            return self._distribution(hidden, target, entropy)
        scored = [
            checkpoint(self._distribution, *part, entropy, use_reentrant=False)
            for part in zip(hidden.chunk(parts), target.chunk(parts), strict=True)
        ]
        logprob = torch.cat([part[0] for part in scored])
        return logprob, None if entropy == "skip" else torch.cat([part[1] for part in scored])

    def _distribution(self, hidden: Tensor, target: Tensor, entropy: Entropy) -> tuple[Tensor, Tensor | None]:
        logits = self.parts.logits(hidden).float()
        if self.temperature != 1.0:  # else one more copy of all logits
            logits = logits / self.temperature
        everything = torch.log_softmax(logits, -1)
        logprob = everything.gather(1, target[:, None])[:, 0]
        if entropy == "skip":
            return logprob, None
        if entropy == "gradient":
            return logprob, -(everything.exp() * everything).sum(-1)
        constant = everything.detach()
        return logprob, -constant.exp().mul_(constant).sum(-1)
