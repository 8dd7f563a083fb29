"""Guided decoding: a response that must be one of several replies, token by token.

vLLM's logits processor of the requests whose `extra_args` have `choices`, a list of int32 LE replies with their stop
tokens. It works on logits, so sampling and the reported log-probabilities are over what is left.
"""

from __future__ import annotations

from array import array

import torch
from vllm import SamplingParams
from vllm.config import VllmConfig
from vllm.v1.sample.logits_processor import BatchUpdate, LogitsProcessor
from vllm.v1.sample.logits_processor.builtin import process_dict_updates

CHOICES = "choices"


class Choices(LogitsProcessor):
    """-inf for every token that goes on none of a request's replies."""

    def __init__(self, vllm_config: VllmConfig, device: torch.device, is_pin_memory: bool) -> None:
        self._device = device
        self._rows: dict[int, tuple[list[list[int]], list[int]]] = {}
        """Place in the batch -> replies, and the tokens said so far, which vLLM adds to."""

    def is_argmax_invariant(self) -> bool:
        return False

    def update_state(self, batch_update: BatchUpdate | None) -> None:
        process_dict_updates(self._rows, batch_update, _guided)

    def apply(self, logits: torch.Tensor) -> torch.Tensor:
        found = {row: followers(choices, said) for row, (choices, said) in self._rows.items()}
        ids = {row: allowed for row, allowed in found.items() if allowed}
        if not ids:
            return logits
        guided = torch.tensor(list(ids), device=self._device)
        rows = torch.tensor([row for row, allowed in ids.items() for _ in allowed], device=self._device)
        allowed = torch.tensor([one for allowed in ids.values() for one in allowed], device=self._device)
        kept = logits[rows, allowed]
        logits[guided] = -torch.inf
        logits[rows, allowed] = kept
        return logits


def followers(choices: list[list[int]], said: list[int]) -> list[int]:
    """The ids that go on a reply which begins with what was said; services/contracts/guidance.py says the same.

    None behind a whole reply: asynchronous scheduling computes one token more, which nobody gets.
    """
    place = len(said)
    return sorted({choice[place] for choice in choices if len(choice) > place and choice[:place] == said})


def _guided(
    params: SamplingParams, prompt_ids: list[int] | None, said: list[int]
) -> tuple[list[list[int]], list[int]] | None:
    choices = (params.extra_args or {}).get(CHOICES)
    return ([array("i", choice).tolist() for choice in choices], said) if choices else None
