"""Examples of answers in the OpenAPI document, by operation; a test holds each against its schema."""

from __future__ import annotations

from typing import Any

JOB_ID, CREATED_UNIX_S = "j0193f2c4d5e6a1b2c", 1_764_057_600.0

_VIEW: dict[str, Any] = {
    "id": JOB_ID,
    "project_id": "default",
    "kind": "training",
    "name": "corner",
    "state": "RUNNING",
    "wish": "run",
    "phase": "training",
    "environment": "grid",
    "advantage_estimator": "gigpo",
    "seed": 0,
    "total_batches": 60,
    "parent_job": None,
    "origin": None,
    "created_unix_s": CREATED_UNIX_S,
    "started_unix_s": CREATED_UNIX_S + 2,
    "finished_unix_s": None,
    "error": None,
    "metrics": {"batch": 11, "success": 0.41, "kl": 0.013, "entropy": 0.87},
}
SPEC: dict[str, Any] = {
    "name": "corner",
    "model": {"scratch": {}},
    "environment": {"environment": "grid", "max_turns": 20},
    "algorithm": {"advantage_estimator": "gigpo"},
    "rollout": {"max_completion_length": 6},
    "training": {"total_batches": 60, "learning_rate": 0.001},
}
_DETAIL = {**_VIEW, "spec": SPEC}
_PAUSING = {**_DETAIL, "wish": "pause"}
_RETRY_ID = "j0193f2c9aaaa112233"
_RETRY = {
    **_DETAIL,
    "id": _RETRY_ID,
    "state": "PENDING",
    "phase": None,
    "metrics": None,
    "started_unix_s": None,
    "parent_job": JOB_ID,
    "origin": {"kind": "retry", "job_id": JOB_ID, "checkpoint": "b000010", "version": 10},
}
_FORK = {**_RETRY, "origin": {**_RETRY["origin"], "kind": "fork"}}
_RESULT = {
    "label": "pinned",
    "version": 60,
    "episodes": 256,
    "success": 0.93,
    "standard_error": 0.016,
    "return_mean": 0.91,
    "length_mean": 6.4,
    "invalid_share": 0.001,
    "split": "test",
    "mismatch_kl": 0.000002,
}
_EVALUATION = {
    "id": "j0193f2cd00ff445566",
    "project_id": "default",
    "name": None,
    "state": "SUCCEEDED",
    "job_id": JOB_ID,
    "checkpoint": "final",
    "version": 60,
    "eval_episodes": 256,
    "eval_seed": 0,
    "split": "test",
    "created_unix_s": CREATED_UNIX_S,
    "finished_unix_s": CREATED_UNIX_S + 30,
    "error": None,
    "result": _RESULT,
    "baselines": {},
}
_GROUP = {
    "group_id": "t0123456789abcdef012",
    "purpose": "training",
    "batch": 11,
    "label": None,
    "cursor": 176,
    "task": "put the apple in the corner",
    "episodes": 2,
    "won": 1,
    "return_mean": 0.5,
    "steps": [6, 20],
}
_EVENT = {
    "id": "1764057600000-0",
    "event": "metrics",
    "data": '{"kind": "metrics", "at_unix_s": 1764057600.0, "data": {"batch": 11, "success": 0.41}}',
}

ANSWERS: dict[str, dict[str, Any]] = {
    "submit_job": {"201": _DETAIL},
    "list_jobs": {"200": {"jobs": [_VIEW], "next_cursor": None}},
    "show_job": {"200": _DETAIL},
    "cancel_job": {"202": {**_DETAIL, "wish": "cancel"}},
    "pause_job": {"202": _PAUSING},
    "resume_job": {"202": _DETAIL},
    "retry_job": {"201": _RETRY},
    "fork_job": {"201": _FORK},
    "follow_events": {"200": _EVENT},
    "show_metrics": {"200": [{"batch": 11, "at_unix_s": CREATED_UNIX_S, "success": 0.41}]},
    "list_job_evaluations": {"200": [{**_RESULT, "label": "after"}]},
    "list_rollouts": {
        "200": {
            "rollouts": [_GROUP],
            "batches": [10, 11],
            "panels": [{"label": "before", "version": 0}],
            "next_offset": None,
        }
    },
    "list_checkpoints": {
        "200": [
            {
                "name": "final",
                "final": True,
                "created_unix_s": CREATED_UNIX_S,
                "files": [{"name": "model.safetensors", "size_bytes": 360_448}],
            }
        ]
    },
    "evaluate_policy": {"201": {**_EVALUATION, "state": "PENDING", "finished_unix_s": None, "result": None}},
    "list_evaluations": {"200": {"evaluations": [_EVALUATION], "next_cursor": None}},
    "show_evaluation": {"200": _EVALUATION},
    "show_health": {"200": {"status": "ok", "checks": {"database": "ok", "redis": "ok", "env": "ok"}}},
}
