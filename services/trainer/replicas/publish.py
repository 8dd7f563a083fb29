"""Publishes a policy version: writes the weights to shared storage, then the manifest, and waits for a replica."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import time
from contextlib import suppress
from pathlib import Path

from pydantic import ValidationError
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.policy import PolicyAck, PolicyManifest
from services.kit.values import hash_value, string_value
from services.ledger import StaleEpoch
from services.trainer.errors import JobFailed
from services.trainer.learner.files import whole_folder
from services.trainer.replicas.live import any_starts
from services.trainer.replicas.refusals import last_refusal, raise_when_refused
from services.trainer.replicas.room import check_capacity, check_room
from services.trainer.session.deadline import Deadline
from services.trainer.session.session import Session
from services.trainer.session.writing import written

ACK_POLL_S = 0.02
"""A small model is served 50 ms after its manifest is seen."""
COMMAND_POLL_S = 0.5

BASE_FILES = ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja")
"""Files of the base beside weights that an engine reads; it must restart when one of them differs."""

_PUBLISH = """
if (redis.call('GET', KEYS[1]) or '0') ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2])
return 1
"""
"""The manifest, unless a newer trainer holds the job: a frozen trainer that wakes up publishes nothing."""


async def publish_policy(session: Session) -> PolicyAck:
    """Publish the learner's weights as version `progress.batch` and wait until a replica serves them.

    A version that is published already (a replay) is left as it is.

    Returns:
        The word of a replica that serves it, or a later one.

    Raises:
        JobFailed: no replica acknowledged it within ack_timeout_s, starts of engines aside, or it is refused for good.
        NoReplicaFree: each live one serves another job, or none came up within ack_timeout_s.
        StaleEpoch, CancelRequested, PauseRequested, DrainRequested.
    """
    await session.commands.check_epoch()
    version = session.progress.batch
    if await _published_version(session) < version:
        manifest = await written(session, f"policy version {version}", lambda: _write(session, version))
        script = session.redis.register_script(_PUBLISH)
        names = [keys.epoch(session.job), keys.policy(session.job)]
        if not await script(keys=names, args=[session.epoch, manifest.model_dump_json()]):
            raise StaleEpoch(f"publish in job {session.job}: epoch {session.epoch} is no longer the newest")
        _prune(session, version)
    return await _wait_for_ack(session, version)


def base_sha(base: Path) -> str:
    """Hex digest of the base's config and tokenizer."""
    digest = hashlib.sha256()
    for name in BASE_FILES:
        if (base / name).is_file():
            digest.update(f"{name}\0".encode() + (base / name).read_bytes())
    return digest.hexdigest()


def _write(session: Session, version: int) -> PolicyManifest:
    folder, spec = session.folder.policy(version), session.spec
    with whole_folder(folder) as unfinished:
        files = session.learner.save_policy(unfinished)
    return PolicyManifest(
        job_id=session.job,
        version=version,
        base=str(session.folder.base),
        base_sha=base_sha(session.folder.base),
        path=str(folder),
        files=files,
        engine=spec.inference.engine,
        torch_dtype=spec.model.torch_dtype,
        max_model_len=spec.max_model_len,
        deterministic=spec.inference.deterministic,
        guided=spec.rollout.guided_decoding is not None,
        most_kept=spec.rollout.top_k,
        vllm=spec.inference.options,
        adapter_rank=spec.model.adapter_rank,
        probe=session.learner.probe(),
    )


async def _published_version(session: Session) -> int:
    """The newest version in Redis; -1: there is none, or nothing that can be read, and it is published again."""
    published = await string_value(session.redis, keys.policy(session.job))
    try:
        return -1 if published is None else PolicyManifest.model_validate_json(published).version
    except ValidationError as error:
        await session.events.warn(f"the published policy cannot be read and is published again: {error}")
        return -1


async def _wait_for_ack(session: Session, version: int) -> PolicyAck:
    deadline, next_check = Deadline(session.settings.ack_timeout_s), time.monotonic() + COMMAND_POLL_S
    while not (serving := [ack for ack in await acks(session.redis, session.job) if ack.version >= version]):
        if deadline.passed and await any_starts(session.redis, session.job):
            deadline.restart()  # a large model takes as long as it takes
        elif deadline.passed:
            await check_capacity(session.redis, session.job)
            cause = await last_refusal(session.redis, session.job, version)
            raise JobFailed(
                f"no inference replica served policy version {version} within {session.settings.ack_timeout_s:g} s"
                f"{cause}"
            )
        await raise_when_refused(session.redis, session.job, version)
        if time.monotonic() >= next_check:
            next_check = time.monotonic() + COMMAND_POLL_S
            await session.commands.check()
            await check_room(session.redis, session.job)
        await asyncio.sleep(ACK_POLL_S)
    return serving[0]


async def acks(redis: Redis, job: str) -> list[PolicyAck]:
    """The replicas' words about the versions that they serve; unreadable words are left out."""
    found = []
    for ack in (await hash_value(redis, keys.policy_acks(job))).values():
        with suppress(ValidationError):
            found.append(PolicyAck.model_validate_json(ack))
    return found


def _prune(session: Session, version: int) -> None:
    for folder in sorted(session.folder.policies.glob("v*"))[: -session.settings.policy_keep]:
        if int(folder.name[1:]) < version:
            shutil.rmtree(folder)
