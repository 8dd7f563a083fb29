"""The surroundings of a trainer in its tests: a scripted rollout player, a replica that acknowledges, and real
processes.

The player stands where the rollout service does: it takes opened groups from the stream and moves them through the
real ledger. What it plays is a function of the group's id alone, so two runs of one job see the same episodes.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import torch
from celery import Celery
from pydantic import ValidationError
from redis.asyncio import Redis
from safetensors.torch import load_file
from transformers import Qwen2ForCausalLM  # by its name: an automatic class imports it late, when time counts

from gigpo_core import lone_turn
from services.advantage.consumer import Consumer
from services.advantage.settings import Settings as AdvantageSettings
from services.contracts import keys
from services.contracts.arrays import pack_float32, pack_int32, unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, parse_spec
from services.contracts.messages import Episode, JobEvent, OpenedGroup, Step, decode
from services.contracts.metrics import of_the_clock
from services.contracts.policy import PolicyAck, PolicyManifest, ReplicaStatus
from services.inference.running import running_replica
from services.inference.settings import Settings as InferenceSettings
from services.kit.payloads import fetched, payload_of
from services.kit.streams import StreamConsumer
from services.kit.values import put_field, string_value
from services.ledger import Ledger, MoveRefused
from services.ledger.ledger import ROLLOUT
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.policy import WEIGHTS
from services.trainer.learner.token_rows import TokenRows
from tests.unit.inference.fake_engine import FakeEngine

GIVE_UP_S = 400.0
"""Only what hangs takes so long."""
NO_CURSOR = 10**9
VOCABULARY = ["go", "north", "south", "take", "apple", "put", "box", "you", "see"]
WORDS = 3 + len(VOCABULARY) + 2  # special tokens and the prompt template's own words


def small_spec(**sections: dict[str, Any]) -> JobSpec:
    """A 4-batch job with the smallest policy that the engine serves; sections override its leaves."""
    document: dict[str, Any] = {
        "model": {"scratch": {"hidden_size": 32, "num_attention_heads": 1, "num_hidden_layers": 1,
                              "intermediate_size": 32, "max_position_embeddings": 64}},
        "environment": {"max_turns": 4, "max_prompt_tokens": 16},
        "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0},
        "rollout": {"num_generations": 4, "groups_per_batch": 3, "max_staleness": 0, "max_completion_length": 8},
        "training": {"total_batches": 4, "minibatches": 2, "learning_rate": 1e-3, "seed": 5},
        "evaluation": {"eval_episodes": 6, "eval_baselines": True},
        "checkpoint": {"checkpoint_every": 2},
        "limits": {"batch_timeout_s": 300.0},
    }  # fmt: skip
    for name, section in sections.items():
        document[name] = {**document.get(name, {}), **section}
    return parse_spec(document)


def scripted_episode(group: OpenedGroup, k: int, attempt: int, version: int, invalid_share: float = 0.0) -> Episode:
    """Random tokens, rewards and states, decided by the group's id and k."""
    rng = random.Random(f"{group.group_id}/{k}")
    won, length = rng.random() < 0.5, rng.randrange(1, 5)
    steps = []
    for index in range(length):
        tokens, anchor = rng.randrange(1, 5), bytes([rng.randrange(3)] * 16)
        response = [rng.randrange(3, WORDS) for _ in range(tokens)]
        steps.append(
            Step(
                step_index=index,
                prompt_ids=pack_int32([rng.randrange(3, WORDS) for _ in range(6)]),
                response_ids=pack_int32(response),
                logprobs=pack_float32([-2.6] * tokens),
                versions=pack_int32([version] * tokens),
                reward=float(won and index == length - 1),
                anchor_key=anchor,
                state_key=anchor,
                anchor=anchor.hex(),
                action="go north",
                action_valid=rng.random() >= invalid_share,
            )
        )
    return Episode(
        group_id=group.group_id, episode_id=f"{group.group_id}/{k}", k=k, attempt=attempt, task="put apple in box",
        steps=steps, won=won, score=float(won), terminated=won, truncated=not won, worker="scripted",
    )  # fmt: skip


class HonestEngine:
    """The log-probabilities that a version's weights give to tokens which a script has chosen.

    Args:
        error: what is added to each, nats, as by an engine with other weights.
    """

    def __init__(self, error: float = 0.0) -> None:
        self._error, self._path, self._scorer = error, "", None

    def score(self, episode: Episode, manifest: PolicyManifest) -> Episode:
        """The episode with its log-probabilities under the manifest's weights."""
        if self._scorer is None or self._path != manifest.path:
            model = Qwen2ForCausalLM.from_pretrained(manifest.base, dtype=torch.float32)
            model.load_state_dict(load_file(Path(manifest.path) / WEIGHTS), strict=False)  # a tied head is there once
            self._path, self._scorer = manifest.path, Scorer(model, temperature=1.0, token_budget=4_096)
        return msgspec.structs.replace(episode, steps=[self._scored(self._scorer, step) for step in episode.steps])

    def _scored(self, scorer: Scorer, step: Step) -> Step:
        rows = TokenRows([lone_turn(unpack_int32(step.prompt_ids), unpack_int32(step.response_ids))])
        logprobs = [value + self._error for value in scorer.constants(rows)[0].tolist()]
        return msgspec.structs.replace(step, logprobs=pack_float32(logprobs))


class ScriptedRollout:
    """Plays every opened group of a job.

    Args:
        invalid_share: share of steps whose action is said to be invalid.
        age: how many versions older than the newest its tokens say they are.
        faults: group's cursor -> how often training attempts at it fail.
        error: how far the engine's log-probabilities are from those that the newest version's weights give, nats.
    """

    def __init__(
        self,
        redis: Redis,
        job: str,
        *,
        invalid_share: float = 0.0,
        age: int = 0,
        faults: dict[int, int] | None = None,
        error: float = 0.0,
    ) -> None:
        self._redis, self._job, self._ledger = redis, job, Ledger(redis, job)
        self._invalid_share, self._age, self._faults = invalid_share, age, dict(faults or {})
        self._engine = HonestEngine(error)
        self.seen: list[OpenedGroup] = []
        """Every training group in the order it came."""
        self.held_from = NO_CURSOR
        """Groups from this cursor on are left unplayed for now, those of the purposes in `holds`."""
        self.holds = {"train"}

    async def run(self) -> None:
        """For ever."""
        stream = StreamConsumer(
            self._redis,
            keys.groups_stream(self._job),
            ROLLOUT,
            "scripted",
            decode=partial(decode, kind=OpenedGroup),
            reclaim_idle_ms=NO_CURSOR,
        )
        waiting: list[OpenedGroup] = []
        while True:
            read = [entry.payload for entry in await stream.read(64, block_ms=50)]
            self.seen += [group for group in read if group.purpose == "train"]
            waiting += read
            due = [group for group in waiting if group.purpose not in self.holds or group.cursor < self.held_from]
            waiting = [group for group in waiting if group not in due]
            for group in due:
                with suppress(MoveRefused):  # dropped meanwhile
                    await self._play(group)

    async def _play(self, group: OpenedGroup) -> None:
        attempt = (await self._ledger.start(group.group_id, "scripted")).number
        if group.purpose == "train" and self._faults.get(group.cursor, 0) > 0:
            self._faults[group.cursor] -= 1
            await self._ledger.fail(group.group_id, attempt, "the environment was lost")
            return
        published = await self._redis.get(keys.policy(self._job))
        manifest = PolicyManifest.model_validate_json(published) if published else None
        version = manifest.version if manifest else 0
        for k in range(group.n):
            episode = scripted_episode(group, k, attempt, max(version - self._age, 0), self._invalid_share)
            if manifest is not None:
                episode = self._engine.score(episode, manifest)
            await self._ledger.record(episode, group)


async def acknowledge(redis: Redis, job: str) -> None:
    """A replica that serves every version as soon as its manifest is there. For ever."""
    while True:
        published = await string_value(redis, keys.policy(job)) or b""
        with suppress(ValidationError):  # there is none, or what a test put in its place
            version = PolicyManifest.model_validate_json(published).version
            ack = PolicyAck(replica="r", version=version, engine="fake", load_s=0.0, pause_s=0.0)
            await put_field(redis, keys.policy_acks(job), "r", ack.model_dump_json())
        await asyncio.sleep(0.02)


async def register(redis: Redis, job: str, replica: str = "r", state: str = "serving") -> None:
    """Keep the status of a live replica that serves the job, for as long as the test lasts."""
    status = ReplicaStatus(replica=replica, job_id=job, version=-1, engine="fake", state=state)
    await put_field(redis, keys.REPLICAS, replica, status.model_dump_json())
    await redis.set(keys.replica_heartbeat(replica), replica)


async def players_present(redis: Redis) -> None:
    """Keep the status of live rollout and advantage services, for as long as the test lasts."""
    for service in ("rollout", "advantage"):
        await redis.set(keys.service_heartbeat(service, "scripted"), b"")


async def submit(redis: Redis, redis_url: str, job: str, spec: JobSpec, *, priority: int = 0) -> None:
    """Send an accepted job as the API does; its own messages have priority 9, the lowest."""
    environment = EnvironmentInfo(id="scripted", vocabulary=VOCABULARY)
    await redis.set(keys.environment(job), environment.model_dump_json())
    await redis.set(keys.spec(job), spec.model_dump_json())
    await redis.set(keys.control(job), "run")
    await enqueue(redis_url, job, priority=priority)


async def enqueue(redis_url: str, *args: Any, priority: int = 0) -> None:
    """Tell the trainer to run a segment."""
    app = Celery("test", broker=redis_url, set_as_current=False)
    app.conf.update(task_serializer="json", task_ignore_result=True)
    send = partial(app.send_task, keys.RUN_SEGMENT, args=list(args), queue=keys.TRAINER_QUEUE, priority=priority)
    await asyncio.to_thread(send)
    app.close()


@asynccontextmanager
async def surroundings(
    redis: Redis, redis_url: str, job: str, *, replica: bool = True, **player: Any
) -> AsyncIterator[ScriptedRollout]:
    """Rollout, the real advantage service, and, unless there is one (`one_replica`), a replica around one job."""
    rollout, stop = ScriptedRollout(redis, job, **player), asyncio.Event()
    settings = AdvantageSettings(redis_url=redis_url, jobs_poll_s=0.05)
    advantage = asyncio.create_task(Consumer(redis, settings, f"advantage-{job}").run(stop))
    await players_present(redis)
    if replica:
        await register(redis, job, f"r-{job}")
    others = [asyncio.create_task(rollout.run())]
    others += [asyncio.create_task(acknowledge(redis, job))] if replica else []
    try:
        yield rollout
    finally:
        stop.set()
        for task in others:
            while not task.done():  # a cancellation that meets a finished send is lost (redis-py on Python 3.11)
                task.cancel()
                await asyncio.wait([task], timeout=0.1)
        await advantage


@asynccontextmanager
async def one_replica(redis_url: str, data_dir: Path, name: str = "r1") -> AsyncIterator[None]:
    """A real inference replica on an engine without a model; like every replica it serves one job at a time."""
    settings = InferenceSettings(redis_url=redis_url, data_dir=data_dir, replica=name, poll_s=0.01)
    async with running_replica(settings, {"vllm": FakeEngine, "transformers": FakeEngine}):
        yield


@contextmanager
def trainer_process(
    redis_url: str, data_dir: Path, *, python_path: Path | None = None, **settings: object
) -> Iterator[subprocess.Popen[bytes]]:
    """A real trainer worker; ended with SIGTERM, killed when that does not help.

    Args:
        python_path: folder whose `sitecustomize.py` every process of it runs first.
    """
    environment = {
        **os.environ,
        **({"PYTHONPATH": f"{python_path}:{os.environ.get('PYTHONPATH', '')}"} if python_path else {}),
        "TRAINER_REDIS_URL": redis_url,
        "TRAINER_DATA_DIR": str(data_dir),
        "TRAINER_RESTORE_INTERVAL_S": "1",
        "TRAINER_POLL_S": "0.1",
        **{f"TRAINER_{name.upper()}": str(value) for name, value in settings.items()},
    }
    with (data_dir / f"trainer-{time.monotonic_ns()}.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "services.trainer.main"], env=environment, stdout=subprocess.PIPE, stderr=log
        )
        try:
            assert process.stdout is not None
            assert b'"service": "trainer"' in process.stdout.readline()
            yield process
        finally:
            process.send_signal(signal.SIGTERM)
            try:
                process.wait(GIVE_UP_S)
            finally:
                process.kill()
                process.wait()
                process.stdout.close()


def children(process: subprocess.Popen[bytes]) -> list[int]:
    """Pids of the pool's children: those spawned interpreters that run billiard's spawn entry."""
    found = []
    for line in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split():
        command = Path(f"/proc/{line}/cmdline").read_bytes()
        if b"spawn_main" in command:
            found.append(int(line))
    return found


def descendants(pid: int) -> list[int]:
    """Pids of the children of a process, theirs, and so on."""
    found = []
    for thread in Path(f"/proc/{pid}/task").iterdir():
        for child in map(int, (thread / "children").read_text().split()):
            found += [child, *descendants(child)]
    return found


@contextmanager
def no_file_above(size_bytes: int, trainer: subprocess.Popen[bytes]) -> Iterator[None]:
    """The kernel refuses longer files to the trainer's child and to its ranks."""
    (child,) = children(trainer)
    before = {pid: resource.prlimit(pid, resource.RLIMIT_FSIZE) for pid in (child, *descendants(child))}
    for pid, (_, hard) in before.items():
        resource.prlimit(pid, resource.RLIMIT_FSIZE, (size_bytes, hard))
    yield
    for pid, limits in before.items():
        with suppress(ProcessLookupError):  # the job may have ended its ranks
            resource.prlimit(pid, resource.RLIMIT_FSIZE, limits)


async def events(redis: Redis, job: str) -> list[JobEvent]:
    """Every event told so far."""
    stream = keys.events_stream(job)
    found = await fetched(redis, stream, await redis.xrange(stream))
    return [decode(payload_of(fields), JobEvent) for _, fields in found]


async def until_event(redis: Redis, job: str, kind: str, count: int = 1, **data: object) -> JobEvent:
    """The `count`-th event of a kind whose data holds `data`."""
    try:
        async with asyncio.timeout(GIVE_UP_S):
            while True:
                told = [
                    event
                    for event in await events(redis, job)
                    if event.kind == kind and data.items() <= event.data.items()
                ]
                if len(told) >= count:
                    return told[count - 1]
                await asyncio.sleep(0.05)
    except TimeoutError:
        told = [(event.kind, event.data) for event in await events(redis, job)]
        raise AssertionError(f"no {kind} {data} within {GIVE_UP_S:g} s; the last events: {told[-8:]}") from None


async def until_state(redis: Redis, job: str, *states: str) -> str:
    """The first of `states` that is told."""
    async with asyncio.timeout(GIVE_UP_S):
        while True:
            for event in await events(redis, job):
                if event.kind == "state" and event.data["state"] in states:
                    return str(event.data["state"])
            await asyncio.sleep(0.05)


def summary_of(data_dir: Path, job: str) -> dict[str, Any]:
    """The job's summary.json."""
    summary: dict[str, Any] = json.loads((data_dir / "jobs" / job / "summary.json").read_bytes())
    return summary


def metrics_of(data_dir: Path, job: str) -> list[dict[str, float]]:
    """metrics.jsonl without what depends on the clock."""
    lines = (data_dir / "jobs" / job / "metrics.jsonl").read_text().splitlines()
    return [{k: v for k, v in json.loads(line).items() if not of_the_clock(k)} for line in lines]


def weights_sha(data_dir: Path, job: str) -> str:
    """Digest of the final weights."""
    return hashlib.sha256((data_dir / "jobs" / job / "final" / "model.safetensors").read_bytes()).hexdigest()
