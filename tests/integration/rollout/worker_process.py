"""Rollout workers as processes, and a job for them."""

from __future__ import annotations

import asyncio
import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from redis.asyncio import Redis

from services.contracts import ids, keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.messages import OpenedGroup
from services.ledger import GroupState, Ledger
from services.rollout.tokens import load_tokens
from tests.integration.rollout.conftest import WORDS, process_environment
from tests.unit.rollout.policy_folder import write_policy_folder
from tests.unit.rollout.stages import spec_of

HANGS_S = 120
"""Only what hangs takes so long."""
MAX_TURNS = {"properties": {"max_turns": {}}}


class WorkedJob:
    """One job as the trainer would set it up, and its ledger."""

    def __init__(self, redis: Redis, data_dir: Path, job_id: str, environment: Mapping[str, Any]) -> None:
        self._redis, self._data_dir, self.job_id = redis, data_dir, job_id
        self.ledger = Ledger(redis, job_id)
        self.spec = spec_of(environment)
        self.epoch = 0

    async def begin(self, *, base: bool = True) -> None:
        """Write what the api and the trainer write, and make the job active."""
        self.epoch = await self.ledger.claim_epoch()
        info = EnvironmentInfo(id=self.spec.environment.environment, kwargs_schema=MAX_TURNS)
        await self._redis.set(keys.spec(self.job_id), self.spec.model_dump_json())
        await self._redis.set(keys.environment(self.job_id), info.model_dump_json())
        await self._redis.sadd(keys.ACTIVE_JOBS, self.job_id)
        if base:
            await self.set_base()

    async def set_base(self, *, chat_template: str | None = None, config: dict[str, Any] | None = None) -> None:
        """Make the folder of the policy's tokenizer, named relative to the data folder.

        Args:
            config: instead of config.json; then tokenizer_config.json says nothing either.
        """
        folder = Path("jobs") / self.job_id / "base"
        write_policy_folder(self._data_dir / folder, WORDS, chat_template=chat_template)
        if config is not None:
            (self._data_dir / folder / "config.json").write_text(json.dumps(config))
            (self._data_dir / folder / "tokenizer_config.json").write_text("{}")
        await self._redis.set(keys.base(self.job_id), str(folder))

    def replies(self, *texts: str) -> list[list[int]]:
        """Token ids of replies."""
        from services.contracts.arrays import unpack_int32

        tokens = load_tokens(self._data_dir / "jobs" / self.job_id / "base")
        return [unpack_int32(tokens.encode_reply(text)) for text in texts]

    async def open(self, cursor: int, **changes: Any) -> str:
        """Open the cursor-th group."""
        fields = {"n": 4, "purpose": "train", "split": "train", "min_version": 0, **changes}
        group = OpenedGroup(
            job_id=self.job_id, group_id=ids.group_id(self.spec.fingerprint(), "train", 0, cursor), cursor=cursor,
            task_seed=ids.task_seed(0, "train", cursor), **fields,
        )  # fmt: skip
        await self.ledger.open(self.epoch, group, self.spec.rollout.max_attempts)
        return group.group_id

    async def reach(self, state: GroupState, *group_ids: str) -> None:
        """Return when all the groups are in the state."""
        for group_id in group_ids:
            while (record := await self.ledger.record_of(group_id)) is None or record.state is not state:
                await asyncio.sleep(0.02)


@contextlib.contextmanager
def worker_process(
    redis_url: str, env_address: str, data_dir: Path, **settings: str
) -> Iterator[subprocess.Popen[bytes]]:
    """A rollout worker that has announced itself; killed at the end when it still runs."""
    quick = {"ROLLOUT_DISCOVER_EVERY_S": "0.05", "ROLLOUT_REPLICA_POLL_S": "0.05"}
    environment = process_environment(
        ROLLOUT_REDIS_URL=redis_url, ROLLOUT_ENV_ADDRESS=env_address, ROLLOUT_DATA_DIR=str(data_dir),
        **(quick | settings),
    )  # fmt: skip
    command = [sys.executable, "-m", "services.rollout.main"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE) as worker:
        try:
            assert worker.stdout is not None
            assert json.loads(worker.stdout.readline())["service"] == "rollout"
            yield worker
        finally:
            worker.kill()
