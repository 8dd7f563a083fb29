"""Learning rates as pure functions of the training progress."""

from __future__ import annotations

import math

from services.contracts.job import Training, WarmStart

SUPERVISED_RAMP_STEPS = 30
SUPERVISED_END = 0.1
"""Ramp and end share of the warm start: measured on the grid task, where a constant rate overshoots."""


def learning_rate(training: Training, batch_index: int) -> float:
    """Rate of a batch: `warmup_batches` ramp up while the schedule runs from 1 towards `lr_end_ratio`.

    The end is reached behind the last batch, as in transformers: a schedule to 0 trains its last batch at 1/T of the
    rate, since a batch at rate 0 would be played for nothing.

    Args:
        batch_index: 0 .. total_batches - 1 = T - 1; later batches keep the end of the schedule.
    """
    progress = min(batch_index / max(training.total_batches, 1), 1.0)
    end = training.lr_end_ratio
    share = {
        "constant": 1.0,
        "linear": 1.0 - (1.0 - end) * progress,
        "cosine": end + (1.0 - end) * 0.5 * (1.0 + math.cos(math.pi * progress)),
    }[training.lr_scheduler_type]
    ramp = min(1.0, (batch_index + 1) / max(training.warmup_batches, 1))
    return training.learning_rate * share * ramp


def supervised_learning_rate(warmstart: WarmStart, step: int) -> float:
    """Rate of optimizer step 0 .. warmstart_steps - 1: a ramp of 30 steps on a linear decay to a tenth."""
    decay = 1.0 - (1.0 - SUPERVISED_END) * step / warmstart.warmstart_steps
    return warmstart.warmstart_learning_rate * min(1.0, (step + 1) / SUPERVISED_RAMP_STEPS) * decay
