"""A job on the platform under test: its spec, looks at it while it runs, and what it left behind."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import httpx
import yaml
from redis import Redis
from redis.exceptions import RedisError

from gigpo.client.synchronous.client import GigpoClient
from services.contracts import keys
from services.contracts.archive import read_archive
from services.contracts.jobfolder import JobFolder
from services.kit.dead_letters import dead_letters
from services.kit.kombu_layout import UNACKED, waiting_lists
from services.ledger.records import Balance, balance_of, state_in
from services.ledger.states import GroupState
from tests.chaos.checks import Remains, Shape, TrainedGroup
from tests.chaos.poison import Poison, keys_of
from tests.chaos.recovery import Look
from tests.chaos.stack import ROOT, Stack

GROUPS, EPISODES, MAX_TURNS, CHECKPOINT_EVERY = 4, 4, 6, 3
API_TIMEOUT_S = 1.0
SETTLED_WITHIN_S = 20.0
"""What belongs to an ended job may take so long to be cleared away."""


def small_spec(engine: str, batches: int, seed: int) -> dict[str, Any]:
    """The default job cut to seconds, strictly on-policy and deterministic, so that two runs can be compared."""
    document: dict[str, Any] = yaml.safe_load((ROOT / "examples/default.yaml").read_text())
    document["model"]["warmstart"].update(warmstart_rows=2_000, warmstart_steps=40, warmstart_max_invalid=1.0)
    document["environment"].update(max_turns=MAX_TURNS)
    document["rollout"].update(groups_per_batch=GROUPS, num_generations=EPISODES, max_staleness=0)
    document["training"].update(total_batches=batches, minibatches=2, seed=seed)
    document["evaluation"] = {"eval_episodes": 16, "eval_baselines": False}
    document["checkpoint"] = {"checkpoint_every": CHECKPOINT_EVERY}
    document["inference"] = {"engine": engine, "deterministic": True}
    return document


class ObservedJob:
    """One submitted job."""

    def __init__(self, stack: Stack, name: str, engine: str, batches: int, seed: int) -> None:
        self._stack, self.shape = stack, Shape(batches, GROUPS, EPISODES)
        with GigpoClient(stack.api_url) as gigpo:
            self.id = gigpo.submit({**small_spec(engine, batches, seed), "name": name}).id
        self._folder = JobFolder.of(stack.data, self.id)
        self._always_balanced = True
        self._redis: Redis | None = None
        self._redis_url = ""

    def look(self, poison: Poison, *, api: bool = False) -> Look:
        """The job now; the API is asked where that is wanted."""
        live, balanced, left = self._ledger(poison)
        self._always_balanced &= balanced is not False
        return Look(
            batch=self._batches(),
            live=live,
            balanced=balanced,
            poison=left,
            api=self._api_answers() if api else None,
            ended=self._folder.summary.exists(),
        )

    def state(self) -> str:
        """What the API says at last."""
        with GigpoClient(self._stack.api_url) as gigpo:
            return str(gigpo.job(self.id).state)

    def remains(self, poison: Poison) -> Remains:
        """What it left behind; call it when it has ended."""
        with self._stack.redis() as redis:
            balance = self._balance(redis)
            groups = self._trained()
            raw = [redis.hget(keys.group(self.id, group.group_id), "state") for group in groups]
            states = {group.group_id: state.decode() for group, state in zip(groups, raw, strict=True) if state}
            left_over = self._settled(lambda: left_in_redis(redis, self.id, poison))
        return Remains(
            state=self.state(),
            balance=balance,
            always_balanced=self._always_balanced,
            groups=groups,
            states=states,
            metrics=self._metrics(),
            evaluations=json.loads(_text(self._folder.evaluations) or "[]"),
            weights=self._weights(),
            left_over=left_over + self._unfinished_files(),
        )

    def _ledger(self, poison: Poison) -> tuple[dict[str, GroupState] | None, bool | None, int]:
        try:
            redis = self._connected()
            balanced = self._balance(redis).holds
            names = [name.decode() for name in cast("set[bytes]", redis.smembers(keys.live(self.id)))]
            pipe = redis.pipeline(transaction=False)
            for name in names:
                pipe.hget(keys.group(self.id, name), "state")
            states = dict(zip(names, pipe.execute(), strict=True))
            return {name: state_in(raw) for name, raw in states.items() if raw}, balanced, poison.left(redis)
        except (RedisError, OSError, KeyError):
            self._redis = None
            return None, None, 0

    def _connected(self) -> Redis:
        if self._redis is None or self._redis_url != self._stack.redis_url:
            self._redis_url, self._redis = self._stack.redis_url, self._stack.redis()
        return self._redis

    def _balance(self, redis: Redis) -> Balance:
        pipe = redis.pipeline(transaction=True)
        pipe.hgetall(keys.ledger(self.id))
        pipe.scard(keys.live(self.id))
        raw, live = pipe.execute()
        return balance_of(raw, live)

    def _metrics(self) -> list[dict[str, float]]:
        lines = (_text(self._folder.metrics) or "").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def _batches(self) -> int:
        rows = self._metrics()
        return int(rows[-1]["batch"]) + 1 if rows else 0

    def _api_answers(self) -> bool:
        with suppress(httpx.HTTPError, OSError, ValueError):
            return httpx.get(f"{self._stack.api_url}/v1/jobs/{self.id}", timeout=API_TIMEOUT_S).status_code == 200
        return False

    def _trained(self) -> list[TrainedGroup]:
        files = sorted(self._folder.archives.glob("batch-*"))
        return [
            TrainedGroup(int(file.name[6:11]), scored.group_id, episodes)
            for file in files
            for scored, episodes in read_archive(file)
        ]

    def _weights(self) -> str:
        files = sorted(self._folder.final.rglob("model.safetensors"))
        return " ".join(hashlib.sha256(file.read_bytes()).hexdigest()[:16] for file in files) or "none"

    def _unfinished_files(self) -> list[str]:
        odd = [file for file in self._folder.root.rglob("*") if file.name.startswith(".") or file.suffix == ".tmp"]
        return [f"the unfinished file {file.relative_to(self._folder.root)}" for file in odd]

    @staticmethod
    def _settled(found: Callable[[], list[str]]) -> list[str]:
        deadline = time.monotonic() + SETTLED_WITHIN_S
        while (left := found()) and time.monotonic() < deadline:
            time.sleep(0.2)
        return left


def left_in_redis(redis: Redis, job: str, poison: Poison) -> list[str]:
    """Sentences: entries, messages and dead letters that nobody needs any more."""
    work = (keys.groups_stream(job), keys.episodes_stream(job), keys.scored_stream(job))
    replies = list(keys_of(redis, "replies", job))
    streams = [*work, *keys_of(redis, "requests", job)]
    found = [f"{redis.xlen(key)} entries in {key}" for key in streams if redis.xlen(key)]
    found += [f"{key}, which never expires" for key in replies if redis.ttl(key) < 0]  # what was read stays till then
    found += [f"{redis.llen(key)} messages in {key!r}" for key in waiting_lists(keys.TRAINER_QUEUE) if redis.llen(key)]
    if redis.hlen(UNACKED):
        found.append(f"{redis.hlen(UNACKED)} messages that a trainer holds")
    if redis.hlen(keys.manifests(job)):
        found.append(f"{redis.hlen(keys.manifests(job))} manifests")
    if redis.sismember(keys.ACTIVE_JOBS, job):
        found.append("the job is in the list of active jobs")
    for key in [*streams, *replies, keys.events_stream(job)]:
        found += [f"dead letter of {key}: {cause}" for cause in _causes(redis, key, poison)]
    return found


def _causes(redis: Redis, stream: str, poison: Poison) -> list[str]:
    """Why entries of a stream were set aside that are no poison of ours."""
    letters = cast("list[tuple[bytes, dict[bytes, bytes]]]", redis.xrange(dead_letters(stream)))
    others = [fields for _, fields in letters if not poison.payloads & {*fields.values()}]
    return [fields.get(b"cause", b"")[:200].decode() for fields in others]


def _text(path: Path) -> str | None:
    with suppress(OSError):
        return path.read_text()
    return None
