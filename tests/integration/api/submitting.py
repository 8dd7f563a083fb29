"""A small spec to submit, and waiting for a job's state."""

from __future__ import annotations

import time
from typing import Any

import httpx

SCRATCH = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


def spec(**sections: Any) -> dict[str, Any]:
    return {**SCRATCH, **sections}


def until(http: httpx.Client, job: str, state: str) -> dict[str, Any]:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        answer: dict[str, Any] = http.get(f"/v1/jobs/{job}").raise_for_status().json()
        if answer["state"] == state:
            return answer
        time.sleep(0.05)
    raise AssertionError(f"want state {state}, got {answer['state']}")
