"""A job's summary beside its figures."""

from __future__ import annotations

import json
from pathlib import Path

from services.contracts.job import parse_spec
from services.trainer.job.summary import inert_step_level

SPEC = parse_spec(
    {
        "model": {"scratch": {}},
        "algorithm": {"advantage_estimator": "gigpo"},
        "rollout": {"max_completion_length": 6},
    }
)
UNIQUE, SHARED = ({"trained_rows": 9, "success": 0.2, "step_group_share_1": share} for share in (0.99, 0.2))


def test_a_step_level_that_said_nothing_to_the_end_is_in_the_summary(tmp_path: Path) -> None:
    metrics = tmp_path / "metrics.jsonl"
    assert inert_step_level(SPEC, metrics) is None
    metrics.write_text("".join(json.dumps(row) + "\n" for row in [SHARED, *[UNIQUE] * 6]))
    said = inert_step_level(SPEC, metrics)
    assert said is not None
    assert said.startswith(
        "The step level says nothing: 99.0% of the steps are in a state that no other step was in, 6"
    )
    metrics.write_text("".join(json.dumps(row) + "\n" for row in [*[UNIQUE] * 6, SHARED]))
    assert inert_step_level(SPEC, metrics) is None
    metrics.write_text("{")
    assert inert_step_level(SPEC, metrics) is None
