"""Says which models the learner of this installation can train, by the estimate that dry runs use."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from gigpo.client.doctor.finding import Finding, ok, warning
from services.contracts.job import JobSpec
from services.contracts.learner_memory import PROCESS_BYTES, Decoder, RankCount, RankSettings, learner_memory
from services.contracts.service_settings import read_settings

_MACHINE = "services.api.jobs.machine"
"""This module is missing where only the client is installed."""
SIZES = {
    "0.5B": Decoder(494_000_000, 896, 4_864, 24, 151_936, 128),
    "1.5B": Decoder(1_544_000_000, 1_536, 8_960, 28, 151_936, 256),
    "3B": Decoder(3_086_000_000, 2_048, 11_008, 36, 151_936, 256),
    "7B": Decoder(7_616_000_000, 3_584, 18_944, 28, 152_064, 512, tied=False),
    "14B": Decoder(14_770_000_000, 5_120, 13_824, 48, 152_064, 1_024, tied=False),
    "32B": Decoder(32_764_000_000, 5_120, 27_648, 64, 152_064, 1_024, tied=False),
}
"""Qwen2.5's."""


def training(data_dir: Path) -> Finding:
    """The largest models that fit, on this machine's GPUs or in its memory."""
    machine = import_module(_MACHINE).this_machine(data_dir)
    ranks = read_settings(RankSettings).count
    of_each = machine.gpu or machine.memory // ranks.number
    return trainable(of_each, ranks, "GPU" if machine.gpu else "memory")


def trainable(of_each: int, ranks: RankCount, kind: str) -> Finding:
    """The finding for ranks that have `of_each` bytes each; 0: not known."""
    where = f"{ranks.number} rank{'s' * (ranks.number > 1)} with {of_each / 1e9:,.0f} GB of {kind} each"
    if not of_each:
        return warning("training", f"this system does not report its {kind}", "gigpo train --dry-run estimates a job")
    largest = {tuner: _largest(tuner, of_each, ranks) for tuner in ("full", "lora")}
    if largest["lora"] is None:
        todo = "train a policy from scratch, or set TRAINER_RANKS where there are more GPUs"
        return warning("training", f"no model of 0.5B parameters fits {where}", todo)
    whole = f"whole up to {largest['full']}" if largest["full"] else "none whole"
    return ok("training", f"models like Qwen2.5 in bfloat16: {whole}, by LoRA up to {largest['lora']}, on {where}")


def _largest(tuner: str, of_each: int, ranks: RankCount) -> str | None:
    spec = JobSpec.model_validate({"model": {"model": "m", "tuner_type": tuner, "torch_dtype": "bfloat16"}})
    fits = [name for name, model in SIZES.items() if learner_memory(spec, model, ranks).peak + PROCESS_BYTES <= of_each]
    return fits[-1] if fits else None
