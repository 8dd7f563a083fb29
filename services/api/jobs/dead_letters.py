"""The use cases on dead letters: list, show, retry, drop. A caller sees those of the jobs that it sees.

Letters of replicas, workers and the trainers' queue belong to no job; only an administrator sees them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from redis.asyncio import Redis
from redis.exceptions import ResponseError
from sqlalchemy import select

from services.api.jobs.letter_text import announced_group, printable, shown_fields
from services.api.jobs.queries import find
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, not_found
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.api.sync.broker import job_named_in
from services.api.sync.fair_queue import WAITING_LIST
from services.contracts import keys
from services.contracts.rest.dead_letters import DeadLetterDetail, DeadLetterView, RetriedLetter
from services.contracts.states import TERMINAL
from services.contracts.streams import BY_NAME, JOB_STREAMS, StreamKind, stream_in
from services.kit.dead_letters import dead_letters
from services.kit.letters import Letter, discard, letter_of, letters_of, put_back, put_back_in_queue
from services.kit.streams import FIELD
from services.kit.values import texts
from services.ledger import GroupState, Ledger, RecordUnreadable

_WAITING = {
    "groups": {GroupState.OPEN, GroupState.GENERATING},
    "episodes": {GroupState.COMPLETE},
}
"""States of a group that waits for an entry of the stream."""
_SUFFIX = dead_letters("")


@dataclass(frozen=True)
class Place:
    """The place of a letter."""

    kind: StreamKind
    owner: str
    letter_id: str = ""

    @property
    def stream(self) -> str:
        """Key of the stream that it came from."""
        return self.kind.key(self.owner)

    @property
    def job_id(self) -> str | None:
        """None: the stream belongs to no job."""
        return self.owner if self.kind.owner == "job" else None

    @property
    def name(self) -> str:
        """Id of the letter among all."""
        return f"{self.kind.name}.{self.owner}.{self.letter_id}"


@dataclass(frozen=True)
class Servers:
    """Places of letters: those of the trainers' queue in Celery's database, the others beside their streams."""

    redis: Redis
    broker: Redis

    def of(self, place: Place) -> Redis:
        """The one that has the letters of this place."""
        return self.broker if place.kind.owner == "queue" else self.redis


async def listed(
    database: Database, servers: Servers, caller: Caller, job_id: str | None = None
) -> list[DeadLetterView]:
    """The letters of one job, or all that the caller sees; the newest first. Raises Problem 404."""
    if job_id is not None:
        await find(database, caller, job_id)
        places = [Place(kind, job_id) for kind in JOB_STREAMS]
    else:
        places = await _visible(database, caller, await _everywhere(servers))
    found = [(place, letter) for place in places for letter in await _letters(servers.of(place), place)]
    views = [_view(Place(place.kind, place.owner, letter.id), letter) for place, letter in found]
    return sorted(views, key=lambda one: one.last_unix_s, reverse=True)


async def counted(redis: Redis, job_id: str) -> int:
    """How many dead letters the streams of a job have."""
    return await _count(redis, [Place(kind, job_id) for kind in JOB_STREAMS])


async def counted_everywhere(database: Database, servers: Servers, caller: Caller) -> int:
    """How many dead letters the caller sees."""
    places = await _visible(database, caller, await _everywhere(servers))
    return sum([await _count(servers.of(place), [place]) for place in places])


async def shown(database: Database, servers: Servers, caller: Caller, name: str) -> DeadLetterDetail:
    """One letter with its content. Raises Problem 404."""
    place, letter = await _found(database, servers, caller, name)
    view = _view(place, letter).model_dump()
    return DeadLetterDetail(**view, group_id=announced_group(letter), fields=shown_fields(letter))


async def retried(database: Database, servers: Servers, caller: Caller, name: str) -> RetriedLetter:
    """Put a letter back into its stream, once. Raises Problem 404; 409: nobody would read it, or it is not whole."""
    place, letter = await _found(database, servers, caller, name)
    if letter.cut:
        raise _refusal("retry", place, "want a message that was kept whole, got one that was cut when it was set aside")
    if letter.gone:
        raise _refusal(
            "retry", place, "want a message whose payload is there, got one whose payload has expired; drop it"
        )
    if place.kind.owner == "queue":
        return await _queued_again(servers.broker, place, letter)
    redis = servers.redis
    await _want_reader(database, servers, caller, place)
    group_id, record = announced_group(letter), None
    if place.job_id is not None and group_id is not None:
        if not await _waits(redis, place, group_id):
            raise _refusal("retry", place, f"group {group_id} does not wait for it any more; drop it")
        record = keys.group(place.job_id, group_id)
    try:
        entry_id = await put_back(redis, place.stream, place.letter_id, record)
    except ResponseError as error:
        raise _refusal("retry", place, str(error)) from error
    if entry_id is None:
        raise not_found("dead letter", name)
    return RetriedLetter(id=name, stream=place.kind.name, owner=place.owner, entry_id=entry_id)


async def dropped(database: Database, servers: Servers, caller: Caller, name: str) -> None:
    """Delete a letter for good. Raises Problem 404; 409: its group waits for it, and only the letter says so."""
    place, letter = await _found(database, servers, caller, name)
    group_id = announced_group(letter)
    live = group_id is not None and await _of_unended_job(database, caller, place)
    if live and group_id is not None and await _waits(servers.redis, place, group_id):
        cause = f"group {group_id} still waits for it; retry it, or let the job's trainer drop the group"
        raise _refusal("drop", place, cause)
    if not await discard(servers.of(place), place.stream, place.letter_id):
        raise not_found("dead letter", name)


def place_of(name: str) -> Place | None:
    """The place of the letter of this id; None: it is no such id."""
    kind, _, rest = name.partition(".")
    owner, _, letter_id = rest.rpartition(".")
    at_ms, _, seq = letter_id.partition("-")
    numbers = all(one.isascii() and one.isdigit() and len(one) < 20 for one in (at_ms, seq))
    if not numbers or kind not in BY_NAME or BY_NAME[kind].owner_of(BY_NAME[kind].key(owner)) != owner:
        return None
    return Place(BY_NAME[kind], owner, letter_id)


async def _everywhere(servers: Servers) -> list[Place]:
    names = texts([name async for name in servers.redis.scan_iter(f"*{_SUFFIX}", count=1_000)])
    queue = dead_letters(keys.TRAINER_QUEUE)
    names = [name for name in names if name != queue] + [queue] * await servers.broker.exists(queue)
    found = [stream_in(name.removesuffix(_SUFFIX)) for name in sorted(names)]
    return [Place(*one) for one in found if one is not None and one[1].isprintable()]


async def _visible(database: Database, caller: Caller, places: Sequence[Place]) -> list[Place]:
    """Those of jobs that the caller sees; whoever sees all jobs sees the others too."""
    if caller.sees is None:
        return list(places)
    async with database.seen_by(caller).read() as session:
        query = select(JobRow.id).where(JobRow.id.in_({one.owner for one in places if one.job_id is not None}))
        jobs = set((await session.scalars(query)).all())
    return [one for one in places if one.job_id in jobs]


async def _count(redis: Redis, places: Sequence[Place]) -> int:
    async with redis.pipeline(transaction=False) as pipe:
        for place in places:
            pipe.xlen(dead_letters(place.stream))
        lengths = await pipe.execute(raise_on_error=False)
    return sum(length for length in lengths if isinstance(length, int))  # an error: another type stands there


async def _letters(redis: Redis, place: Place) -> list[Letter]:
    try:
        return await letters_of(redis, place.stream)
    except ResponseError:  # a value of another type stands in the letters' place
        return []


async def _found(database: Database, servers: Servers, caller: Caller, name: str) -> tuple[Place, Letter]:
    place = place_of(name)
    if place is not None and await _visible(database, caller, [place]):
        try:
            letter = await letter_of(servers.of(place), place.stream, place.letter_id)
        except ResponseError:
            letter = None
        if letter is not None:
            return place, letter
    raise not_found("dead letter", name)


async def _of_unended_job(database: Database, caller: Caller, place: Place) -> bool:
    async with database.seen_by(caller).read() as session:
        state = await session.scalar(select(JobRow.state).where(JobRow.id == place.job_id))
    return state is not None and state not in TERMINAL


async def _want_reader(database: Database, servers: Servers, caller: Caller, place: Place) -> None:
    """Raises Problem 409: the stream has no reader any more."""
    if place.job_id is not None:
        if not await _of_unended_job(database, caller, place):
            raise _refusal("retry", place, "want a job that has not ended, got one that has")
        return
    heartbeat = keys.replica_heartbeat(place.owner)
    if place.kind.owner == "worker":
        heartbeat = keys.service_heartbeat("rollout", place.owner)
    if not await servers.redis.exists(heartbeat):
        raise _refusal("retry", place, f"want a live {place.kind.owner}, {place.owner} sends no heartbeat")


async def _queued_again(broker: Redis, place: Place, letter: Letter) -> RetriedLetter:
    """Raises Problem 404; 409: it names no job, so every trainer would set it aside again."""
    payload = next((value for name, value, size in letter.fields if name == FIELD and len(value) == size), b"")
    if (job := job_named_in(payload)) is None:
        raise _refusal("retry", place, "want a message that tells a trainer to run a job, got one that names none")
    if not await put_back_in_queue(broker, place.stream, place.letter_id, WAITING_LIST):
        raise not_found("dead letter", place.name)
    return RetriedLetter(id=place.name, stream=place.kind.name, owner=place.owner, entry_id=job)


async def _waits(redis: Redis, place: Place, group_id: str) -> bool:
    """Whether the ledger says that the group waits for an entry of the letter's stream."""
    if place.job_id is None or place.kind.name not in _WAITING:
        return False
    try:
        record = await Ledger(redis, place.job_id).record_of(group_id)
    except RecordUnreadable:
        return False
    return record is not None and record.state in _WAITING[place.kind.name]


def _refusal(verb: str, place: Place, cause: str) -> Problem:
    return Problem(409, f"cannot {verb} dead letter {place.name}: {cause}")


def _view(place: Place, letter: Letter) -> DeadLetterView:
    return DeadLetterView(
        id=place.name,
        stream=place.kind.name,
        owner=printable(place.owner),
        job_id=place.job_id,
        service=place.kind.reader,
        cause=printable(letter.cause),
        first_unix_s=letter.first_unix_s,
        last_unix_s=letter.last_unix_s,
        times=letter.times,
        size_bytes=letter.size_bytes,
        cut=letter.cut,
    )
