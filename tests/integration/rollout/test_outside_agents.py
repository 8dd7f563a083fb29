"""Outside agents on a real API, rollout worker, environment service and streams; a plain harness over HTTP plays."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import httpx
import pytest

from services.contracts.messages import Episode, decode
from services.ledger import GroupState
from tests.integration.api.api_process import running_api
from tests.integration.rollout.fake_replica import FakeReplica, serving
from tests.integration.rollout.worker_process import HANGS_S, WorkedJob, worker_process

KEY = "Zk3v0mYc1nq8b6X2f7tJwR5sL9aH"
TEMPLATE = (
    "{% for message in messages %}{{ message.content }} {% if message.role == 'assistant' %}<eos> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}act{% endif %}"
)
MODEL = {"scratch": {"scratch_chat": True}}
OUTSIDE = {"interaction": "outside", "session_timeout_s": 60}
REPLIES = ("go north", "go south", "go east", "go west")


class Harness:
    """What an agent of somebody else's does, with nothing but HTTP."""

    def __init__(self, http: httpx.AsyncClient, job: str) -> None:
        self._http, self._job = http, job

    async def open(self) -> tuple[dict, dict]:
        """A session and the headers with its key; waits until one is open."""
        while True:
            answer = await self._http.post(f"/v1/jobs/{self._job}/sessions", headers=bearer(KEY))
            if answer.status_code == 201:
                session = answer.json()
                return session, bearer(session["api_key"])
            assert (answer.status_code, answer.headers["retry-after"]) == (503, "1"), answer.text
            await asyncio.sleep(0.05)

    async def ask(self, session: dict, headers: dict, messages: list, **more) -> httpx.Response:
        body = {"model": "policy", "temperature": 0.2, "messages": messages, **more}
        return await self._http.post(f"{session['path']}/chat/completions", json=body, headers=headers)

    async def play(self) -> dict:
        """An episode in the environment; the session at its end."""
        session, headers = await self.open()
        messages, over = [], False
        while not over:
            messages.append({"role": "user", "content": session["observation"]})
            reply = (await self.ask(session, headers, messages)).raise_for_status().json()["choices"][0]["message"]
            messages.append(reply)
            acted = await self._http.post(
                f"{session['path']}/actions", json={"action": reply["content"]}, headers=headers
            )
            over = acted.raise_for_status().json()["over"]
        return (await self._http.get(session["path"], headers=headers)).raise_for_status().json()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@asynccontextmanager
async def platform(
    redis, redis_url, env_address, folder
) -> AsyncIterator[tuple[httpx.AsyncClient, WorkedJob, FakeReplica]]:
    """Everything but a trainer and an engine, and a job that outside agents play."""
    with running_api(folder, redis_url, env_address, API_KEY=KEY) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=HANGS_S) as http:
            spec = {"model": MODEL, "environment": OUTSIDE, "rollout": {"max_completion_length": 6}}
            made = await http.post("/v1/jobs", json=spec, headers=bearer(KEY))
            assert made.status_code == 201, made.text
            job = WorkedJob(redis, folder, made.json()["id"], OUTSIDE, MODEL)
            await job.begin(base=False)
            await job.set_base(chat_template=TEMPLATE)
            replica = FakeReplica(redis, job.job_id, job.replies(*REPLIES))
            async with serving(replica):
                with worker_process(redis_url, env_address, folder):
                    yield http, job, replica


async def episodes_of(job: WorkedJob, group_id: str) -> list[Episode]:
    await asyncio.wait_for(job.reach(GroupState.COMPLETE, group_id), HANGS_S)
    return [decode(payload, Episode) for payload in await job.ledger.episodes_of(group_id)]


@pytest.mark.timeout(240)
async def test_a_harness_plays_a_group_and_its_tokens_are_kept_as_sampled(redis, redis_url, env_address, tmp_path):
    async with platform(redis, redis_url, env_address, tmp_path) as (http, job, replica):
        harness = Harness(http, job.job_id)
        group_id = await job.open(0, n=3)
        ended = await asyncio.gather(*(harness.play() for _ in range(3)))
        assert {(one["state"], one["seed"]) for one in ended} == {("closed", ended[0]["seed"])}
        assert {one["k"] for one in ended} == {0, 1, 2}
        for episode in await episodes_of(job, group_id):
            seen = next(one for one in ended if one["k"] == episode.k)
            assert (seen["turns"], seen["reward"]) == (len(episode.steps), sum(s.reward for s in episode.steps))
            assert [step.continues for step in episode.steps] == [index > 0 for index in range(len(episode.steps))]
            for step in episode.steps:
                sampled = replica.sampled[f"{job.job_id}/{episode.episode_id}:{step.step_index}:1"]
                assert (step.response_ids, step.logprobs, step.versions) == (
                    sampled.response_ids, sampled.logprobs, sampled.versions,
                )  # fmt: skip

        # a session that was closed without a reward is no reward: its group is played again
        group_id = await job.open(1, n=1)
        session, headers = await harness.open()
        await http.post(f"{session['path']}/close", json={}, headers=headers)
        shown = (await http.get(session["path"], headers=headers)).json()
        assert (shown["state"], "without a reward" in shown["why"]) == ("abandoned", True)
        gone = await harness.ask(session, headers, [{"role": "user", "content": "go"}])
        assert (gone.status_code, "without a reward" in gone.json()["detail"]) == (410, True)

        session, headers = await harness.open()
        assert session["group_id"] == group_id
        await _refusals(http, harness, session, headers)
        streamed = await harness.ask(
            session, headers, [{"role": "user", "content": "go"}], stream=True, stream_options={"include_usage": True}
        )
        events = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
        assert events[-1] == "[DONE]"
        first, last, usage = map(json.loads, events[:-1])
        assert first["choices"][0]["delta"]["content"] in REPLIES
        assert last["choices"][0]["finish_reason"] == "stop"
        assert usage["usage"]["prompt_tokens"] == 2
        again = await harness.ask(
            session, {**headers, "x-stainless-retry-count": "1"}, [{"role": "user", "content": "go"}]
        )
        assert again.json()["choices"][0]["message"]["content"] == first["choices"][0]["delta"]["content"]
        closed = await http.post(f"{session['path']}/close", json={"reward": 0.5}, headers=headers)
        assert (closed.json()["state"], closed.json()["won"]) == ("closed", True)
        (episode,) = await episodes_of(job, group_id)
        assert (episode.attempt, episode.score, episode.won, len(episode.steps)) == (2, 0.5, True, 1)
        assert (await job.ledger.balance()).holds


async def _refusals(http: httpx.AsyncClient, harness: Harness, session: dict, headers: dict) -> None:
    """What is refused, and changes nothing."""
    path = session["path"]
    hello = [{"role": "user", "content": "go"}]
    assert (await http.get(path)).status_code == 401
    for wrong in (bearer("gs_wrong"), bearer(headers["Authorization"].removeprefix("Bearer ") + "x")):
        assert (await http.get(path, headers=wrong)).status_code == 404
        assert (await harness.ask(session, wrong, hello)).status_code == 404
    assert (await http.get(f"/v1/jobs/{session['job_id']}", headers=headers)).status_code == 401
    assert (await http.get(path, headers=bearer(KEY))).status_code == 200
    reader = await http.post("/v1/keys", json={"name": "r", "scopes": ["read"]}, headers=bearer(KEY))
    reading = bearer(reader.json()["key"])
    assert (await http.get(path, headers=reading)).status_code == 200
    assert (await harness.ask(session, reading, hello)).status_code == 403
    for body in (
        {"messages": []}, {"n": 2}, {"stop": ["x"]}, {"tool_choice": "required"},
        {"response_format": {"type": "json_object"}},
        {"messages": [{"role": "user", "content": [{"type": "image_url"}]}]},
    ):  # fmt: skip
        refused = await http.post(f"{path}/chat/completions", json={"messages": hello, **body}, headers=headers)
        assert refused.status_code == 422, body
    long = await harness.ask(session, headers, [{"role": "user", "content": "go " * 3_000}])
    assert (long.status_code, "context_length_exceeded" in long.json()["detail"]) == (400, True)
    large = await harness.ask(session, headers, [{"role": "user", "content": "go " * 500_000}])
    assert large.status_code == 413
    assert (await http.post(f"{path}/actions", json={"action": "go north"}, headers=headers)).status_code == 409
    assert (await http.post(f"{path}/close", json={"reward": 1}, headers=headers)).status_code == 409
    models = await http.get(f"{path}/models", headers=headers)
    assert models.json()["data"][0]["id"] == session["job_id"]
