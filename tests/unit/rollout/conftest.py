from pathlib import Path

import pytest

from tests.unit.rollout.stages import Stage, fake_stage


@pytest.fixture
def stages(tmp_path: Path):
    """Makes stages, each a job of its own, all of one spec."""

    def stage(job_id: str = "job_1", **environment) -> Stage:
        return fake_stage(tmp_path, job_id, **environment)

    return stage
