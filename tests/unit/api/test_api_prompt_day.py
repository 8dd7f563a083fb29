"""A submission records the day that its chat template writes, unless its spec names one or has no template."""

from __future__ import annotations

import asyncio
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from services.api.jobs.admission import Admission
from services.api.jobs.offline import offline_dry_run
from services.contracts.job import JobSpec, ScratchModel, parse_spec
from services.trainer.learner.scratch import build_scratch


def pinned(spec: JobSpec) -> JobSpec:
    nothing: Any = None
    admission = Admission(nothing, nothing, data_dir=Path(), model_roots=[], engines=[], trackers=[], wake=lambda: None)
    return asyncio.run(admission._pinned(spec))[0]


def spec(**environment: Any) -> JobSpec:
    return parse_spec({"model": "/models/one", "environment": environment})


def test_a_submission_without_a_day_gets_its_own() -> None:
    before = datetime.now(UTC).date()
    found = pinned(spec()).environment.chat_template_date
    assert found is not None
    assert before <= found <= datetime.now(UTC).date()
    assert pinned(spec()).model_copy(update={"environment": spec().environment}) == spec()


def test_a_dry_run_without_a_stack_has_the_day_too(tmp_path: Path) -> None:
    build_scratch(ScratchModel(), ["go", "act", "."], 0, tmp_path / "model")
    wanted = {"model": str(tmp_path / "model"), "rollout": {"max_completion_length": 64}}
    view = {"info": {"id": "grid", "prompt_template": "grid/v1"}}
    told: Any = offline_dry_run(parse_spec(wanted), [view], tmp_path / "data")
    assert told["spec"]["environment"]["chat_template_date"] is not None


def test_a_day_that_is_named_stays() -> None:
    assert pinned(spec(chat_template_date="2025-03-09")).environment.chat_template_date == date(2025, 3, 9)


def test_prompts_without_a_chat_template_have_no_day() -> None:
    scratch = parse_spec({"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}})
    assert pinned(scratch) == scratch
    assert pinned(spec(use_chat_template=False)) == spec(use_chat_template=False)


def test_a_recorded_spec_keeps_its_day_through_json() -> None:
    one = pinned(spec())
    assert parse_spec(one.model_dump(mode="json")) == one
    assert JobSpec.model_validate_json(one.model_dump_json()) == one
