"""Unreadable entries for every stream."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import cast

import msgspec
from redis import Redis
from redis.typing import EncodableT, FieldT

from services.contracts import keys
from services.kit.streams import FIELD

NAMED: Mapping[str, Callable[[str], str]] = {
    "groups": keys.groups_stream,
    "episodes": keys.episodes_stream,
    "scored": keys.scored_stream,
    "events": keys.events_stream,
    "ledger": keys.ledger,
    "manifests": keys.manifests,
    "acks": keys.policy_acks,
    "refusals": keys.policy_refusals,
    "replicas": lambda _: keys.REPLICAS,
    "active": lambda _: keys.ACTIVE_JOBS,
}
"""Name of a stream or place of a job -> its key."""
STRANGERS = ("nobody", "\x00", "7", '{"of": "another version"}', "", "-1", "x" * 100_000, b"\xff\xfe")
"""Fields, members and values that are none."""
Fields = Mapping[bytes, bytes]
LARGE = 200_000


def shapes(noise: int) -> list[Fields]:
    """One entry of each kind: without the field, no text, nothing, half a message, of a newer schema, of other types,
    large."""
    rng = random.Random(noise)
    payloads = [
        rng.randbytes(40),
        b"\xff\xfe",
        b"",
        msgspec.msgpack.encode({"schema": 1, "job_id": "j"})[:-1],
        msgspec.msgpack.encode({"schema": 99, "job_id": "j"}),
        msgspec.msgpack.encode({"schema": 1, "job_id": 7, "group_id": None, "results": "x"}),
        msgspec.msgpack.encode([1, 2, 3]),
        rng.randbytes(LARGE),
    ]
    return [{b"q": b"x"}, {b"\xff": rng.randbytes(5)}, *({FIELD: payload} for payload in payloads)]


@dataclass
class Poison:
    """What was added where; `left` says how much of it still stands there."""

    entries: list[tuple[str, str]] = field(default_factory=list)
    """(stream, id) of those that a reader must take away while the job runs. Events stay in their stream for ever, and
    the queue is read when its trainer is free."""
    payloads: set[bytes] = field(default_factory=set)
    """Contents by which a dead letter is recognised as ours, wherever it was moved to."""

    def add(self, redis: Redis, stream: str, job: str, noise: int) -> int:
        """Poison one of `faults.STREAMS`; returns how many entries."""
        added = 0
        for key in keys_of(redis, stream, job):
            for fields in shapes(noise):
                value = next(iter(fields.values()))
                self.payloads.add(value)
                added += 1
                if stream == "queue":
                    redis.lpush(key, value)
                    continue
                entry = cast(bytes, redis.xadd(key, dict[FieldT, EncodableT](fields.items())))
                if stream != "events":
                    self.entries.append((key, entry.decode()))
        return added

    def left(self, redis: Redis) -> int:
        """How many entries nobody has taken away."""
        pipe = redis.pipeline(transaction=False)
        for key, entry in self.entries:
            pipe.xrange(key, entry, entry)
        return sum(found not in ([], None) for found in pipe.execute())


def keys_of(redis: Redis, stream: str, job: str) -> Iterator[str]:
    """The keys of one of `faults.STREAMS` or `faults.PLACES` in a running installation."""
    scanned = {"requests": keys.requests_stream("*"), "replies": keys.replies_stream("*")}
    if stream in scanned:
        yield from (name.decode() for name in redis.scan_iter(scanned[stream], count=1_000))
    elif stream == "queue":
        yield keys.TRAINER_QUEUE
    else:
        yield NAMED[stream](job)


def spoil(redis: Redis, kind: str, place: str, job: str) -> str:
    """Write what no service writes: `stranger`: into a hash or a set; `type`: in a key's place. Returns a note."""
    names = list(keys_of(redis, place, job))
    for name in names:
        if kind == "type":
            _replace(redis, name)
        elif place == "active":
            redis.sadd(name, *STRANGERS)
        else:
            redis.hset(name, mapping=dict(zip(STRANGERS, STRANGERS[::-1], strict=True)))
    return ", ".join(names)


def _replace(redis: Redis, name: str) -> None:
    """In one transaction, because a service writes the key again as soon as it is gone."""
    with redis.pipeline(transaction=True) as pipe:
        pipe.delete(name)
        pipe.set(name, b"\xff")
        pipe.execute()
