"""Both clients against a real API; the test says what a trainer would."""

from __future__ import annotations

import asyncio
from contextlib import aclosing
from pathlib import Path
from typing import Any

import pytest

from gigpo.client import AsyncGigpoClient, GigpoClient
from tests.integration.api.api_process import ApiProcess

pytestmark = pytest.mark.parametrize("api", ["sqlite", "postgresql"], indirect=True, scope="module")

SPEC: dict[str, Any] = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}


def test_both_clients_hear_the_same_events_and_fetch_the_same_checkpoint(api: ApiProcess, tmp_path: Path) -> None:
    with GigpoClient(api.url) as client:
        job = client.submit({**SPEC, "name": "heard"}, key="library")
        assert client.submit({**SPEC, "name": "heard"}, key="library").id == job.id
        final = api.data_dir / "jobs" / job.id / "final"
        final.mkdir(parents=True)
        (final / "config.json").write_text("{}")
        (final / "model.safetensors").write_bytes(bytes(range(256)) * 4_000)
        for batch in range(300):
            api.say(job.id, "metrics", batch=batch, success=0.5)
        api.say(job.id, "state", state="SUCCEEDED")
        heard = list(client.events(job.id))
        client.download_checkpoint(job.id, "final", tmp_path / "sync")
        rows = client.metrics(job.id)

    async def ask() -> None:
        async with AsyncGigpoClient(api.url) as awaited:
            followers = [follow(awaited, job.id) for _ in range(8)]
            assert all([events == heard for events in await asyncio.gather(*followers)])
            assert [event async for event in awaited.events(job.id, after=heard[-3].id)] == heard[-2:]
            async with aclosing(awaited.events(job.id)) as events:
                assert await anext(events) == heard[0]
            assert [one.id async for one in awaited.jobs(name="heard")] == [job.id]
            assert await awaited.metrics(job.id) == rows
            await awaited.download_checkpoint(job.id, "final", tmp_path / "async")

    async def follow(awaited: AsyncGigpoClient, job_id: str) -> list[Any]:
        return [event async for event in awaited.events(job_id)]

    asyncio.run(ask())
    assert [event.data["batch"] for event in heard if event.kind == "metrics"] == list(range(300))
    assert len(rows) == 300
    for folder in ("sync", "async"):
        assert (tmp_path / folder / "model.safetensors").read_bytes() == (final / "model.safetensors").read_bytes()
