"""Watched episodes: an episode that is played for a user and shown step by step, with statistics of each state.

A running job plays it beside its training, on the replica that serves the job: nothing is stored, and the ledger does
not count it. Any other policy plays it as an evaluation of one episode, in its own job, so that a replica loads the
checkpoint and quotas count as usual.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass

from redis.asyncio import Redis

from services.api.jobs import queries as jobs
from services.api.jobs.admission import Admission, Call
from services.api.jobs.derived_specs import stored_spec
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, bad_spec, not_found
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts import ids, keys
from services.contracts.ids import Purpose
from services.contracts.job import JobSpec
from services.contracts.messages import OpenedGroup, encode
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.insight import WatchRequest, WatchView
from services.contracts.states import Command, JobState
from services.contracts.watching import ALIVE_S, FIELD, Waiting, encoded

MOST_WAITING = 8
"""Plays of one job that may wait; rollout workers play four at a time each."""
RETRY_S = 5
_PLAY = "w"
"""The beginning of the id of a watch beside the training; another one is the id of its evaluation."""


@dataclass(frozen=True)
class Watch:
    """The stream of a watch's steps."""

    watch_id: str
    player_job: str

    @property
    def stream(self) -> str:
        """Its key in Redis."""
        return keys.watch(self.player_job, self.watch_id)


async def begin_watch(
    redis: Redis, database: Database, admission: Admission, caller: Caller, job: JobRow, wanted: WatchRequest
) -> WatchView:
    """Have an episode played.

    Raises:
        Problem: 404, there is no such checkpoint; 409, the job has none yet; 422; 429, too many wait already.
    """
    seed = secrets.randbelow(1 << ids.SEED_BITS) if wanted.seed is None else wanted.seed
    spec = stored_spec(job.spec, job.id)
    member = _member(spec, wanted, seed)
    split = wanted.split or spec.part(member).environment.eval_split
    if job.state == JobState.RUNNING and wanted.checkpoint is None:
        watch_id = await _play_beside(redis, job.id, spec, member, seed, split)
        return WatchView(watch_id=watch_id, job_id=job.id, player_job=job.id, checkpoint=None, seed=seed, split=split)
    request = EvaluationRequest(
        job_id=job.id,
        checkpoint=wanted.checkpoint,
        eval_episodes=1,
        eval_seed=seed,
        split=wanted.split,
        member=member or None,
    )
    answer = await admission.evaluate(Call(caller, None, ""), request)
    watch = Watch(answer.job_id, answer.job_id)
    async with redis.pipeline(transaction=True) as pipe:
        pipe.set(keys.watched(watch.player_job), watch.watch_id, ex=ALIVE_S)
        _open(pipe, watch, "the checkpoint waits for the trainer and an inference replica")
        await pipe.execute()
    made = await jobs.find(database, caller, answer.job_id)
    checkpoint = (made.origin or {}).get("checkpoint")
    return WatchView(
        watch_id=watch.watch_id,
        job_id=job.id,
        player_job=watch.player_job,
        checkpoint=checkpoint,
        seed=seed,
        split=split,
    )


async def find_watch(redis: Redis, database: Database, caller: Caller, job: JobRow, watch_id: str) -> Watch:
    """A watch of the job's policy that is still there. Raises Problem 404."""
    player = job.id
    if not watch_id.startswith(_PLAY):
        made = await jobs.find(database, caller, watch_id)
        if made.parent_job != job.id or not made.is_evaluation:
            raise not_found("watch", watch_id)
        player = made.id
    watch = Watch(watch_id, player)
    if not await redis.exists(watch.stream):
        raise not_found("watch", watch_id)
    return watch


async def end_watch(redis: Redis, database: Database, caller: Caller, job: JobRow, watch: Watch) -> None:
    """Stop the episode: beside a training at its next step, in an evaluation of its own by cancelling that."""
    await redis.delete(watch.stream)
    if watch.player_job == job.id:
        return
    try:
        await jobs.command(database, caller, watch.player_job, Command.CANCEL)
    except Problem as problem:
        if problem.status != 409:  # the episode has ended
            raise


async def keep_watch(redis: Redis, watch: Watch) -> bool:
    """Note that somebody still watches; whether the watch is still there."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.expire(watch.stream, ALIVE_S)
        pipe.expire(keys.watched(watch.player_job), ALIVE_S)
        pipe.expire(keys.plays(watch.player_job), ALIVE_S)
        there, *_ = await pipe.execute()
    return bool(there)


def _member(spec: JobSpec, wanted: WatchRequest, seed: int) -> str:
    """The member that is played; empty: the job is no mixture. Raises Problem 422."""
    names = list(spec.parts)
    if wanted.member is None:
        return names[seed % len(names)]
    if wanted.member not in names or not wanted.member:
        known = ", ".join(filter(None, names)) or "none, the job is no mixture"
        raise bad_spec([("member", f"want one of its members ({known}), got {wanted.member!r}")])
    return wanted.member


async def _play_beside(redis: Redis, job_id: str, spec: JobSpec, member: str, seed: int, split: str) -> str:
    if await redis.llen(keys.plays(job_id)) >= MOST_WAITING:
        sentence = f"want at most {MOST_WAITING} watched episodes that wait, try again in {RETRY_S} s"
        raise Problem(429, sentence, headers={"Retry-After": str(RETRY_S)})
    watch = Watch(_PLAY + secrets.token_hex(10)[:19], job_id)
    task_seed = ids.task_seed(seed, Purpose.EVALUATION, 0)
    environment = spec.part(member).environment
    group = OpenedGroup(
        job_id=job_id,
        group_id=watch.watch_id,
        purpose=Purpose.EVALUATION,
        cursor=0,
        task_seed=task_seed,
        member=member,
        environment_kwargs=dict(environment.row(task_seed)),
        split=split,
        n=1,
        min_version=0,
        task_view=environment.task_view,
        sentence_seed=ids.task_seed(seed, Purpose.EVALUATION, 1),
    )
    async with redis.pipeline(transaction=True) as pipe:
        _open(pipe, watch, "the job's inference replica has not taken it yet")
        pipe.rpush(keys.plays(job_id), encode(group))
        pipe.expire(keys.plays(job_id), ALIVE_S)
        await pipe.execute()
    return watch.watch_id


def _open(pipe: Redis, watch: Watch, message: str) -> None:
    """The stream must be there before anything is told: it is the sign that somebody watches."""
    pipe.xadd(watch.stream, {FIELD: encoded(Waiting(message=message))})
    pipe.expire(watch.stream, ALIVE_S)
