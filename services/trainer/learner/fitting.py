"""Refuses a policy whose states can never fit: on a CPU the system would end the process, again and again."""

from __future__ import annotations

from typing import Any

import structlog
import torch
from transformers import PreTrainedModel

from services.contracts.job import JobSpec
from services.contracts.learner_memory import PROCESS_BYTES, Decoder, RankCount, learner_memory
from services.kit.memory import main_memory
from services.trainer.learner.errors import LearnerError

log = structlog.get_logger("trainer")


def check_memory(spec: JobSpec, model: PreTrainedModel, ranks: RankCount, parameters: int) -> None:
    """Compare the estimate of dry runs with this rank's device.

    Args:
        parameters: of the model without adapters.

    Raises:
        LearnerError: weights, gradients and moments alone need more than there is.
    """
    needs, place = learner_memory(spec, decoder_of(model, parameters), ranks), "memory"
    there = main_memory()[0] // ranks.number
    if torch.cuda.is_available():
        there, place = torch.cuda.mem_get_info()[1], "GPU memory"
    log.info("memory of a rank", needed=needs.peak + PROCESS_BYTES, there=there, ranks=ranks.number)
    if there and needs.states > there:
        raise LearnerError(
            f"model: its weights, gradients and moments need {needs.states / 1e9:,.1f} GB of {place} on each of "
            f"{ranks.number} ranks, want at most {there / 1e9:,.1f} GB; more ranks, or tuner_type: lora, need less"
        )


def decoder_of(model: PreTrainedModel, parameters: int) -> Decoder:
    """The sizes of a loaded model."""
    config: Any = model.config.get_text_config()

    def said(name: str) -> int:
        found = getattr(config, name, None)
        return found if isinstance(found, int) else 0

    return Decoder.of(parameters, said, tied=bool(getattr(config, "tie_word_embeddings", True)))
