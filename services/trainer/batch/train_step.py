"""Trains one batch: passes its rows to the learner, publishes the new version, writes the record and the archive."""

from __future__ import annotations

import time
from functools import partial

from services.contracts.archive import packed
from services.contracts.events import BatchTrained, Phase
from services.contracts.ids import Purpose
from services.contracts.policy import PolicyAck
from services.kit.tracing import doing
from services.trainer.batch.batches import Batch, is_manifest, load_manifest, next_batch, staleness
from services.trainer.batch.metrics import Timing, append_record, batch_record, usual_length
from services.trainer.batch.mismatch import warn_of_mismatch
from services.trainer.errors import CancelRequested, DrainRequested, JobFailed, NoReplicaFree, PauseRequested
from services.trainer.groups.settlement import training_manifests
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.rows import rows_of
from services.trainer.replicas.publish import publish_policy
from services.trainer.session.session import Session
from services.trainer.session.writing import written
from services.trainer.storage.folders import write_durably


async def train_next_batch(session: Session) -> None:
    """Wait for the next batch, train it, publish the version it makes.

    Raises:
        JobFailed, CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    started = time.monotonic()
    batch = await next_batch(session)
    await train_batch(session, batch, time.monotonic() - started - batch.scoring_s)


async def manifests_to_replay(session: Session) -> dict[int, str]:
    """Batch -> manifest of what was assigned since the checkpoint, in order; what is no manifest is taken away."""
    manifests = training_manifests(await session.ledger.manifests())
    due = {number: manifest for number, manifest in manifests.items() if number >= session.progress.batch}
    for number in [number for number, manifest in due.items() if not is_manifest(number, manifest)]:
        await session.events.warn(f"batch {number}: want the manifest of its groups, got {due.pop(number)[:40]!r}")
        await session.ledger.consume(session.epoch, number, [])  # removes the manifest alone when no groups are given
    return due


async def replay(session: Session, manifests: dict[int, str]) -> None:
    """Train the batches of an earlier trainer again.

    Args:
        manifests: see `manifests_to_replay`.

    Raises:
        JobFailed: a payload is not that of its manifest, or a manifest is missing in between.
        CancelRequested, PauseRequested, DrainRequested, StaleEpoch.
    """
    for number, manifest in manifests.items():
        if number != session.progress.batch:
            raise JobFailed(f"replay: want the manifest of batch {session.progress.batch}, the next one is {number}")
        await session.events.phase(Phase.REPLAY, batch=number)
        await train_batch(session, await load_manifest(session, number, manifest), 0.0)


async def train_batch(session: Session, batch: Batch, wait_s: float) -> None:
    """Take the optimizer steps of an assigned batch and publish the next version."""
    groups = [trace for name in batch.group_ids if (trace := session.traces.pop(name, ""))]
    with doing("batch", links=groups, batch=batch.number):
        await _train_batch(session, batch, wait_s)


async def _train_batch(session: Session, batch: Batch, wait_s: float) -> None:
    started, arrived = time.monotonic(), time.time() - batch.scoring_s
    usual = usual_length(session.spec.rollout, session.progress.batch, session.progress.totals.env_steps)
    with doing("train"):
        learner = _learn(session, batch)
    train_s = time.monotonic() - started + batch.scoring_s
    await warn_of_mismatch(session, f"batch {batch.number}", learner.get("current_mismatch_kl"))
    session.progress.batch += 1
    session.consumption.trained(batch.number, batch.group_ids)
    interrupt: Exception | None = None
    served: PolicyAck | None = None
    published = time.monotonic()
    try:
        with doing("publish", policy_version=session.progress.batch):
            served = await publish_policy(session)
    except (CancelRequested, DrainRequested, NoReplicaFree, PauseRequested) as error:
        interrupt = error  # the batch is trained all the same: it gets its record
    publish_s = time.monotonic() - published
    timing = Timing(wait_s, train_s, publish_s, served, arrived)
    spec = session.spec
    member_of = partial(spec.member_at, Purpose.TRAINING)
    figures = batch_record(batch, learner, timing, spec.rewards.reward_funcs, usual, member_of)
    record = {"at_unix_s": time.time(), **figures}
    payload = packed([group.encoded for group in batch.groups])
    await written(
        session, f"batch {batch.number}", lambda: write_durably(session.folder.rollouts(batch.number), payload)
    )
    await written(session, "metrics.jsonl", lambda: append_record(session.folder.metrics, record))
    session.progress.metrics_lines += 1
    session.progress.spend("training", wait_s + train_s + publish_s)
    session.progress.wait(
        inference=record["wait_generate_s"], environment=record["wait_env_s"], trainer=train_s + publish_s
    )
    await session.events.add(BatchTrained(record=record))
    await session.tracking.batch(record)
    if interrupt is not None:
        raise interrupt


def _learn(session: Session, batch: Batch) -> dict[str, float]:
    rows = [row for group in batch.groups for row in rows_of(group.episodes, group.scored)]
    if not rows:
        raise JobFailed(f"batch {batch.number}: its {len(batch.groups)} groups hold no steps")
    try:
        learner = session.learner.train_batch(rows, batch.number)
    except LearnerError as error:
        raise JobFailed(f"batch {batch.number}: {error}") from error
    totals = session.progress.totals
    totals.env_steps += sum(len(episode.steps) for group in batch.groups for episode in group.episodes)
    totals.sampled_tokens += sum(group.sampled_tokens for group in batch.groups)
    totals.trained_tokens += int(learner["trained_tokens"])
    totals.zero_advantage_tokens += sum(len(row.response_ids) for row in rows) - int(learner["trained_tokens"])
    totals.trained_steps += len(rows)
    totals.optimizer_steps = session.learner.optimizer_steps
    totals.stale_max = max(totals.stale_max, *(staleness(group, batch.number) for group in batch.groups))
    return learner
