"""Jobs to look at, and what their trainer would say of a batch."""

from __future__ import annotations

import httpx


def metrics(batch: int, success: float) -> dict[str, float]:
    return {"batch": batch, "version": batch + 1, "success": success, "episodes": 128, "kl": 0.1, "entropy": 1.0,
            "return_mean": success, "length_mean": 8.0, "step_group_share_1": 0.25, "step_group_share_2": 0.75,
            "useful_anchor_share": 0.5, "tokens_per_s": 900.0}  # fmt: skip


def submitted(http: httpx.Client, name: str) -> str:
    spec = {"name": name, "model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}
    return str(http.post("/v1/jobs", json=spec).raise_for_status().json()["id"])
