"""The payloads of a scored group in the ledger, which training, archive and manifest use."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.archive import Encoded
from services.contracts.arrays import unpack_int32
from services.contracts.messages import ContractError, Episode, ScoredGroup, decode
from services.kit.values import queue_string
from services.ledger.records import episodes_in
from services.trainer.errors import JobFailed


@dataclass(frozen=True)
class Payload:
    """One group's stored bytes and what they say."""

    scores: bytes
    episode_payloads: list[bytes]
    """Payloads in order of k."""
    scored: ScoredGroup
    episodes: list[Episode]

    @property
    def group_id(self) -> str:
        return self.scored.group_id

    @property
    def encoded(self) -> Encoded:
        """The archive's form of it."""
        return self.scores, self.episode_payloads

    @property
    def scores_sha(self) -> str:
        return hashlib.sha256(self.scores).hexdigest()

    @property
    def sampled_tokens(self) -> int:
        """Response tokens, counted on the bytes that rollout recorded when they were sampled (4 bytes a token)."""
        return sum(len(step.response_ids) for episode in self.episodes for step in episode.steps) // 4

    def versions(self) -> Iterable[int]:
        """The policy version of every response token."""
        for episode in self.episodes:
            for step in episode.steps:
                yield from unpack_int32(step.versions)


def payload_of(group_id: str, scores: bytes | None, episode_payloads: list[bytes]) -> Payload:
    """Decode and check a group.

    Raises:
        JobFailed: the ledger lost it, it is no message, or the scores are of other episodes.
    """
    if scores is None or not episode_payloads:
        raise JobFailed(
            f"group {group_id}: its episodes or scores are missing in Redis, although the group was never consumed"
        )
    try:
        scored, episodes = decode(scores, ScoredGroup), [decode(payload, Episode) for payload in episode_payloads]
    except ContractError as error:
        raise JobFailed(f"group {group_id}: {error}") from error
    if hashlib.sha256(b"".join(episode_payloads)).hexdigest() != scored.episodes_sha:
        raise JobFailed(f"group {group_id}: the stored episodes are not those that were scored")
    return Payload(scores, episode_payloads, scored, episodes)


class StoredGroups:
    """The payloads of one job's scored groups, in Redis."""

    def __init__(self, redis: Redis, job: str) -> None:
        self._redis, self._job = redis, job

    async def load(self, group_ids: Sequence[str]) -> list[Payload]:
        """The groups' payloads in the order given, fetched in one round trip.

        Raises:
            JobFailed, RecordUnreadable: see `payload_of` and `episodes_in`.
        """
        async with self._redis.pipeline(transaction=False) as pipe:
            for name in group_ids:
                queue_string(pipe, keys.scores(self._job, name))
                pipe.hgetall(keys.episodes(self._job, name))
            raw = await pipe.execute()
        pairs = zip(raw[::2], raw[1::2], strict=True)
        return [
            payload_of(name, scores, episodes_in(name, stored))
            for name, ((scores,), stored) in zip(group_ids, pairs, strict=True)
        ]
