"""Outside agents on a real API and Redis: a plain harness over HTTP plays; the worker's part is in this process."""

from __future__ import annotations

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from services.contracts.environment import EnvironmentInfo
from services.ledger import GroupState
from services.rollout.agents import connected_agents
from services.rollout.playbook import make_playbook
from services.rollout.player import Player
from tests.integration.api.api_process import running_api
from tests.unit.rollout.fakes import CORRIDOR_WORDS, FakeEnvironments, FakeInference, FakeLedger
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import Stage, encoded_replies, spec_of

HANGS_S = 60
OPENENV = Path(__file__).parents[3] / ".venv-openenv" / "bin" / "python"
"""The installation beside ours that has OpenAI's client."""
CLIENT = """
import json, sys
import openai
client = openai.OpenAI(base_url=sys.argv[1], api_key=sys.argv[2])
past = [{"role": "user", "content": "at"}]
first = client.chat.completions.create(model="policy", messages=past, temperature=0).choices[0].message
past += [first, {"role": "user", "content": "of"}]
second = client.chat.completions.create(model="policy", messages=past).choices[0].message.content
chunks = client.chat.completions.create(model="policy", messages=past[:1], stream=True)
streamed = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
try:
    client.chat.completions.create(model="policy", messages=[{"role": "user", "content": "go " * 3000}])
except openai.BadRequestError as error:
    print(json.dumps([first.content, second, streamed, error.status_code]))
"""
KEY = "Zk3v0mYc1nq8b6X2f7tJwR5sL9aH"
TEMPLATE = (
    "{% for message in messages %}{{ message.content }} {% if message.role == 'assistant' %}<eos> {% endif %}"
    "{% endfor %}{% if add_generation_prompt %}act{% endif %}"
)
MODEL = {"scratch": {"scratch_chat": True}}
OUTSIDE = {"interaction": "outside", "session_timeout_s": 60}
REPLIES = ("go left", "go right")


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


@dataclass
class Played:
    """A job that outside agents play, and its worker."""

    http: httpx.AsyncClient
    stage: Stage
    ledger: FakeLedger

    def begin(self, cursor: int, n: int) -> tuple[str, asyncio.Task[list]]:
        """Play a group as often as it takes; its id, and its episodes to come."""
        group = self.stage.group(cursor, n=n)

        async def play() -> list:
            self.ledger.open(group)
            while self.ledger.states[group.group_id] in (GroupState.OPEN, GroupState.GENERATING):
                await self.stage.player.play(group)
            return await self.stage.episodes(group.group_id)

        return group.group_id, asyncio.create_task(play())


@asynccontextmanager
async def platform(redis, redis_url, env_address, folder) -> AsyncIterator[Played]:
    """An API, a job that outside agents play, and a worker's desk and player with fakes around them."""
    with running_api(folder, redis_url, env_address, API_KEY=KEY) as api:
        async with httpx.AsyncClient(base_url=api.url, timeout=HANGS_S) as http:
            spec = {"model": MODEL, "environment": OUTSIDE, "rollout": {"max_completion_length": 6}}
            made = await http.post("/v1/jobs", json=spec, headers=bearer(KEY))
            assert made.status_code == 201, made.text
            job = made.json()["id"]
            tokens = word_tokens(folder / "policy", CORRIDOR_WORDS, chat_template=TEMPLATE)
            info = EnvironmentInfo(id="corridor", kwargs_schema={"properties": {"max_turns": {}}})
            playbook = make_playbook(job, spec_of({"environment": "corridor", **OUTSIDE}, model=MODEL), info, tokens)
            ledger, inference = FakeLedger(), FakeInference(encoded_replies(playbook, [*REPLIES, ""])[:-1])
            async with connected_agents(redis, "w1") as agents:
                player = Player(playbook, ledger, FakeEnvironments(), inference, "w1", agents=agents)

                async def episodes(group_id: str) -> list:
                    return [episode for _, episode in sorted(ledger.stored[group_id].items())]

                stage = Stage(job, player, playbook, ledger, None, None, episodes, None, inference.sampled)
                yield Played(http, stage, ledger)


@pytest.mark.timeout(240)
async def test_a_harness_plays_and_its_tokens_are_kept_as_sampled(redis, redis_url, env_address, tmp_path):
    async with asyncio.timeout(HANGS_S), platform(redis, redis_url, env_address, tmp_path) as played:
        http, job = played.http, played.stage.job_id
        harness = Harness(http, job)
        _, playing = played.begin(0, n=3)
        ended = await asyncio.gather(*(harness.play() for _ in range(3)))
        assert {(one["state"], one["seed"]) for one in ended} == {("closed", ended[0]["seed"])}
        assert {one["k"] for one in ended} == {0, 1, 2}
        for episode in await playing:
            seen = next(one for one in ended if one["k"] == episode.k)
            assert (seen["turns"], seen["reward"]) == (len(episode.steps), sum(s.reward for s in episode.steps))
            assert [step.continues for step in episode.steps] == [index > 0 for index in range(len(episode.steps))]
            for step in episode.steps:
                sampled = played.stage.sampled[f"{job}/{episode.episode_id}:{step.step_index}:1"]
                assert (step.response_ids, step.logprobs, step.versions) == (
                    sampled.response_ids, sampled.logprobs, sampled.versions,
                )  # fmt: skip

        group_id, playing = played.begin(1, n=1)
        await _abandoned(http, harness)
        session, headers = await harness.open()
        assert session["group_id"] == group_id
        await _refusals(http, harness, session, headers)
        await _streamed(harness, session, headers)
        if OPENENV.exists():
            await _official_client(str(http.base_url).rstrip("/"), session)
        closed = await http.post(f"{session['path']}/close", json={"reward": 0.5}, headers=headers)
        assert (closed.json()["state"], closed.json()["won"]) == ("closed", True)
        (episode,) = await playing
        assert (episode.attempt, episode.score, episode.won) == (2, 0.5, True)
        assert len(episode.steps) == (4 if OPENENV.exists() else 1)


async def _official_client(url: str, session: dict) -> None:
    """OpenAI's own client: a reply, one that goes on, and a stream; an error is its own kind of exception."""
    arguments = [CLIENT, url + session["path"], session["api_key"]]
    client = await asyncio.create_subprocess_exec(str(OPENENV), "-c", *arguments, stdout=subprocess.PIPE)
    said, _ = await client.communicate()
    assert client.returncode == 0
    first, second, streamed, status = json.loads(said)
    assert {first, second, streamed} <= set(REPLIES)
    assert status == 400


async def _abandoned(http: httpx.AsyncClient, harness: Harness) -> None:
    """A session that is closed without a reward is no reward: its group is played again."""
    session, headers = await harness.open()
    await http.post(f"{session['path']}/close", json={}, headers=headers)
    while (shown := (await http.get(session["path"], headers=headers)).json())["state"] != "abandoned":
        await asyncio.sleep(0.02)
    assert "without a reward" in shown["why"]
    gone = await harness.ask(session, headers, [{"role": "user", "content": "go"}])
    assert (gone.status_code, "without a reward" in gone.json()["detail"]) == (410, True)


async def _streamed(harness: Harness, session: dict, headers: dict) -> None:
    """A reply as a stream, and the same again for a client that says that it asks again."""
    hello = [{"role": "user", "content": "go"}]
    streamed = await harness.ask(session, headers, hello, stream=True, stream_options={"include_usage": True})
    events = [line.removeprefix("data: ") for line in streamed.text.split("\n\n") if line]
    assert events[-1] == "[DONE]"
    first, last, usage = map(json.loads, events[:-1])
    assert first["choices"][0]["delta"]["content"] in REPLIES
    assert last["choices"][0]["finish_reason"] == "stop"
    assert usage["usage"]["prompt_tokens"] == 2
    again = await harness.ask(session, {**headers, "x-stainless-retry-count": "1"}, hello)
    assert again.json()["choices"][0]["message"]["content"] == first["choices"][0]["delta"]["content"]


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
    assert (await http.post(f"{path}/actions", json={"action": "go left"}, headers=headers)).status_code == 409
    assert (await http.post(f"{path}/close", json={"reward": 1}, headers=headers)).status_code == 409
    models = await http.get(f"{path}/models", headers=headers)
    assert models.json()["data"][0]["id"] == session["job_id"]
