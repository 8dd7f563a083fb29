"""The health check of containers without a port: this machine's heartbeat, and nobody else's, says that it is well."""

import asyncio
import os
import subprocess
import sys

from services.contracts import keys
from services.kit.lifecycle import heartbeat, instance_name


def check(redis_url: str) -> tuple[int, str]:
    """Exit status and what it said."""
    answer = subprocess.run(
        [sys.executable, "-m", "services.healthcheck", "rollout"],
        env={**os.environ, "ROLLOUT_REDIS_URL": redis_url},
        capture_output=True,
        text=True,
        timeout=60,
    )
    return answer.returncode, answer.stderr


async def test_a_service_is_alive_while_it_beats(redis, redis_url):
    async with heartbeat(redis, keys.service_heartbeat("rollout", instance_name("rollout")), lambda: "{}"):
        assert await asyncio.to_thread(check, redis_url) == (0, "")  # beside the beats: it takes long on a busy machine
    assert check(redis_url) == (1, "rollout: no heartbeat from here\n")


async def test_another_machines_beat_or_another_services_does_not_count(redis, redis_url):
    await redis.set(keys.service_heartbeat("rollout", "rollout-elsewhere-1"), "{}")
    await redis.set(keys.service_heartbeat("trainer", instance_name("trainer")), "{}")
    assert check(redis_url)[0] == 1


def test_a_redis_that_is_away_is_said():
    status, said = check("redis://127.0.0.1:1/0")
    assert status == 1
    assert said.startswith("rollout: Redis does not answer: ")
