"""Which faults there are, and a schedule of them that follows from a seed alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

EPISODE_SERVICES = ("env", "env-worker", "rollout", "inference")
"""What episodes need while they are played; `env-worker` is a process that the environment service has started."""
SERVICES = (*EPISODE_SERVICES, "advantage", "trainer", "trainer-child", "api", "valkey")
"""Everything that a process can be struck of; `trainer-child` is the process that trains, the trainer's own one."""
STREAMS = ("groups", "replies", "requests", "episodes", "scored", "events", "queue")
"""What can be poisoned: all streams between services, and the queue of jobs."""
STACK = "stack"
"""All processes at once."""

KINDS = {
    "kill": "the process is killed (SIGKILL)",
    "stop": "the process stands still (SIGSTOP) for 2 to 9 s",
    "freeze": "the process stands still for 75 s, longer than a hung one is left alone",
    "cut": "every TCP connection of the process is cut at once, to Redis, gRPC and HTTP alike",
    "slow": "every command to Redis takes up to 0.3 s more, for 5 s",
    "pair": "two processes are killed in one moment",
    "poison": "unreadable entries of every shape are added to a stream",
    "stranger": "fields, members and values that no service writes are added to a hash or a set",
    "type": "a value of another type stands in a key's place",
    "disk": "the disk takes nothing for 6 s, from one process or (stack) from all",
    "power": "the whole stack is killed at once and the last bytes of Redis' file are cut off; it is started again",
    "upgrade": "second processes of all services join, the first ones drain in turn (SIGTERM) and come back",
}


@dataclass(frozen=True)
class Bar:
    """The design's promise for one fault."""

    seconds: float
    wording: str


ROWS: dict[tuple[str, str], Bar | None] = {
    ("kill", "env-worker"): Bar(10, "10 s"),
    ("kill", "inference"): Bar(15, "15 s"),
    ("kill", "advantage"): Bar(10, "10 s"),
    ("kill", "rollout"): Bar(15, "15 s"),
    ("kill", "trainer"): Bar(75, "60 s + load"),
    ("kill", "valkey"): Bar(30, "30 s"),
    ("kill", "api"): Bar(5, "5 s"),
    ("stop", "trainer-child"): None,
    ("disk", STACK): None,
    ("power", STACK): None,
}
"""The design's fault table: what is struck -> what is promised. None: that it is survived, in no time of its own."""
OTHERS = (
    ("kill", "env"),
    ("kill", "trainer-child"),
    *(("stop", service) for service in SERVICES if service != "trainer-child"),
    *(("cut", service) for service in ("env", "rollout", "inference", "advantage", "trainer", "api")),
    ("slow", "valkey"),
    *(("poison", stream) for stream in STREAMS),
    ("disk", "trainer-child"),
    ("disk", "api"),
)
PLACES = {
    "ledger": "trainer",
    "manifests": "trainer",
    "acks": "trainer",
    "refusals": "trainer",
    "replicas": "rollout",
    "active": "inference",
}
"""Hashes and sets between services -> the service that reads them."""
ON_REQUEST = (
    *(("freeze", service) for service in ("trainer-child", "rollout", "inference")),
    ("upgrade", STACK),
    *(
        ("pair", "+".join(two))
        for two in (
            ("env", "rollout"),
            ("inference", "rollout"),
            ("inference", "valkey"),
            ("advantage", "trainer-child"),
            ("trainer", "valkey"),
            ("api", "trainer"),
        )
    ),
    *(("stranger", place) for place in PLACES),
    *(("type", key) for key in ("groups", "episodes", "scored", "requests", "replies", "acks", "replicas")),
)
"""Not in the standard mix, because a freeze takes a minute, an upgrade a second stack, and the others are many; asked
for by their kind."""
DRAINED = ("rollout", "env", "inference", "advantage", "trainer", "api")
"""The services in the order in which an upgrade ends them."""
READERS = {
    "groups": "rollout",
    "replies": "rollout",
    "requests": "inference",
    "episodes": "advantage",
    "scored": "trainer",
    "events": "api",
    "queue": "trainer",
}
"""Stream -> the service that reads it."""
LASTS_S = {"stop": (2.0, 9.0), "freeze": (75.0, 75.0), "slow": (5.0, 5.0), "disk": (6.0, 6.0)}
CUT_BYTES = (20_000, 400_000)
"""A power cut loses so much of Redis' file: about a second's writes, and many more than that."""
BATCHES_A_FAULT = 2
"""A fault and what it is compared with lie so far apart."""
BATCHES_AN_UPGRADE = 6
"""The job trains so many more while its services are replaced."""


@dataclass(frozen=True)
class Fault:
    """One fault, decided before the job begins."""

    number: int
    kind: str
    service: str
    """What is struck; of a poisoned stream or place its name, of a pair both."""
    at_batch: int
    """It waits until the job has trained so many batches,"""
    after_s: float
    """and so many seconds more."""
    lasts_s: float = 0.0
    instance: int = 0
    """Which of the service's processes, modulo their number."""
    noise: int = 0
    """Seed of what is written, or of how much is cut off."""

    @property
    def bar(self) -> Bar | None:
        """The design's promise for it."""
        return ROWS.get((self.kind, self.service))


def batches_for(faults: Sequence[Fault]) -> int:
    """Batches of a job that is long enough for these faults; one is quiet before the first."""
    upgrades = sum(fault.kind == "upgrade" for fault in faults)
    return BATCHES_A_FAULT * len(faults) + BATCHES_AN_UPGRADE * upgrades + 2


def schedule(seed: int, kills: int, only: Sequence[str] = (), kinds: Sequence[str] = ()) -> list[Fault]:
    """Draw so many faults in order. Where they are enough, every row of the design's table is among them.

    Upgrades come last, because the job trains on while they last.

    Args:
        only: services; a stream counts to its reader, `env-worker` to `env`, `trainer-child` to `trainer`. Empty: all.
        kinds: names in KINDS; empty: all that the standard mix has.

    Raises:
        ValueError: no fault fits.
    """
    rng = random.Random(f"chaos {seed}")
    first, second = ([one for one in cards if _fits(*one, only, kinds)] for cards in (tuple(ROWS), _others(kinds)))
    if not first + second:
        raise ValueError(f"want a fault that exists, got kinds {', '.join(kinds)} of services {', '.join(only)}")
    deck: list[tuple[str, str]] = []
    while len(deck) < kills:
        if kills < len(first):
            first, second = first + second, []
        deck += rng.sample(first, len(first)) + rng.sample(second, len(second))
    chosen = deck[:kills]
    rng.shuffle(chosen)
    chosen.sort(key=lambda card: card[0] == "upgrade")
    return [_dealt(rng, number, *card) for number, card in enumerate(chosen)]


def _others(kinds: Sequence[str]) -> tuple[tuple[str, str], ...]:
    return OTHERS + tuple(card for card in ON_REQUEST if card[0] in kinds)


def _fits(kind: str, struck: str, only: Sequence[str], kinds: Sequence[str]) -> bool:
    services = {READERS.get(part) or PLACES.get(part, part) for part in struck.split("+")}
    return (not kinds or kind in kinds) and (not only or any(services & {name, *_parts(name)} for name in only))


def _parts(service: str) -> tuple[str, ...]:
    return {"env": ("env-worker",), "trainer": ("trainer-child",)}.get(service, ())


def _dealt(rng: random.Random, number: int, kind: str, service: str) -> Fault:
    shortest, longest = LASTS_S.get(kind, (0.0, 0.0))
    return Fault(
        number,
        kind,
        service,
        at_batch=1 + BATCHES_A_FAULT * number,
        after_s=round(rng.uniform(0.0, 1.0), 2),
        lasts_s=round(rng.uniform(shortest, longest), 1),
        instance=rng.randrange(2),
        noise=rng.randrange(2**31),
    )
