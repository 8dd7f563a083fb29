"""A program that adds an estimator and a loss to the tables, each with an option of its own, and sends both through a
job's spec; prints what came of it as JSON."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from typing import Annotated, Any

from gigpo_core.algorithms import ESTIMATORS, LOSSES, Estimator, Loss
from gigpo_core.options import Bounds


@dataclass(frozen=True)
class SignOptions:
    """The estimator's own."""

    sign_strength: Annotated[float, "sign: the size of every advantage.", Bounds(gt=0, le=8)] = 1.0


@dataclass(frozen=True)
class LinearOptions:
    """The loss's own."""

    linear_slope: Annotated[float, "linear: the slope.", Bounds(gt=0)] = 1.0


def sign(comparison: Any) -> Any:
    """The sign of an episode's return against the group's mean, times the strength."""
    import torch

    from gigpo_core.levels import episode_alone, episode_level

    return episode_alone(comparison.config.sign_strength * torch.sign(episode_level(comparison)), comparison)


def linear(terms: Any) -> Any:
    """-slope A rho, per token."""
    return -terms.config.linear_slope * terms.advantage * terms.log_ratio.exp()


ESTIMATORS["sign"] = Estimator("toy_rows:sign", heeds=("norm",), own=SignOptions, summary="signs")
LOSSES["linear"] = Loss("toy_rows:linear", own=LinearOptions)


def refusal(section: dict[str, Any]) -> str:
    """The sentence with which a spec refuses the section."""
    from services.contracts.job import SpecError, parse_spec

    try:
        parse_spec({"model": {"model": "/m"}, "algorithm": section})
    except SpecError as error:
        return str(error)
    return ""


def main() -> None:
    """Spec -> configurations -> functions."""
    import torch

    from gigpo_core import StepBatch, TokenBatch, batch_totals, compute_advantages, policy_objective
    from gigpo_core.table import markdown
    from services.advantage.service import advantage_config
    from services.contracts.algorithm import Algorithm
    from services.contracts.job import flags, parse_spec
    from services.trainer.learner.update import loss_config

    section = {"advantage_estimator": "sign", "sign_strength": 3.0, "loss_type": "linear", "linear_slope": 2.0}
    spec = parse_spec({"model": {"model": "/m"}, "algorithm": section})
    rows = torch.tensor([0, 1])
    steps = StepBatch(torch.zeros_like(rows), rows, torch.zeros_like(rows), torch.zeros(2, 2).long(), rows.double())
    advantage = compute_advantages(steps, advantage_config(spec.algorithm)).advantage
    log_prob = torch.zeros(2, dtype=torch.float64, requires_grad=True)
    tokens = TokenBatch(log_prob, log_prob.detach(), rows, advantage, rollout_log_prob=log_prob.detach())
    policy_objective(tokens, loss_config(spec), batch_totals(rows, 2)).loss.backward()
    assert log_prob.grad is not None
    found = {
        "advantage": advantage.tolist(),
        "gradient": log_prob.grad.tolist(),
        "schema": Algorithm.model_json_schema()["properties"]["sign_strength"],
        "flag": flags()["linear_slope"],
        "beside": refusal({"sign_strength": 2.0}),
        "loss_beside": refusal({"linear_slope": 2.0}),
        "unheeded": refusal({"advantage_estimator": "sign", "gamma": 0.5}),
        "range": refusal({"advantage_estimator": "sign", "sign_strength": 9.0}),
        "table": [line for line in markdown().splitlines() if "sign_strength" in line],
    }
    sys.stdout.write(json.dumps(found))
