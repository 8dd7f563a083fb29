"""The ledger's moves on a real server: every path keeps the balance, and nobody moves a group twice."""

from __future__ import annotations

import random

import pytest
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.messages import CompleteGroup, Episode, OpenedGroup, ScoredGroup, decode
from services.kit.streams import StreamConsumer
from services.ledger import (
    Attempt,
    DropReason,
    GroupState,
    Ledger,
    LedgerSpoiled,
    MoveRefused,
    RecordUnreadable,
    StaleEpoch,
)
from services.ledger.ledger import ADVANTAGE, KEEP_RECORD_S, MOST_LOSSES, ROLLOUT, TRAINER
from services.trainer.groups import arrivals

JOB = "job_1"


def opened(name: str = "g1", n: int = 2) -> OpenedGroup:
    return OpenedGroup(
        job_id=JOB, group_id=name, purpose="train", cursor=3, task_seed=7, split="train", n=n, min_version=0
    )


def episode(k: int, attempt: int, name: str = "g1") -> Episode:
    return Episode(
        group_id=name, episode_id=f"{name}/{k}", k=k, attempt=attempt, task="put apple in box", steps=[],
        won=False, score=0.0, terminated=False, truncated=True, worker="w",
    )  # fmt: skip


def scores(name: str = "g1", sha: str = "aa") -> ScoredGroup:
    return ScoredGroup(
        group_id=name, purpose="train", cursor=3, advantage=b"", episode_advantage=b"", step_advantage=b"",
        step_return=b"", step_group=b"", episodes_sha=sha,
    )  # fmt: skip


async def play(ledger: Ledger, group: OpenedGroup) -> None:
    attempt = (await ledger.start(group.group_id, "w")).number
    for k in range(group.n):
        await ledger.record(episode(k, attempt, group.group_id), group)


async def state(ledger: Ledger, name: str = "g1") -> GroupState:
    record = await ledger.record_of(name)
    assert record is not None
    return record.state


async def test_a_group_goes_from_open_to_consumed_and_leaves_nothing_behind(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch, group = await ledger.claim_epoch(), opened()
    assert await ledger.open(epoch, group, 3) is GroupState.OPEN
    attempt = (await ledger.start("g1", "w")).number
    assert await ledger.record(episode(1, attempt), group) is GroupState.GENERATING
    assert await ledger.record(episode(0, attempt), group) is GroupState.COMPLETE
    assert [decode(raw, Episode).k for raw in await ledger.episodes_of("g1")] == [0, 1]
    assert await ledger.score(scores()) is GroupState.SCORED
    await ledger.assign(epoch, 5, "{}", ["g1"])
    assert await ledger.manifests() == {5: "{}"}
    balance = await ledger.balance()
    assert (balance.opened, balance.consumed, balance.live) == (1, 0, 1)
    await ledger.consume(epoch, 5, ["g1"])
    balance = await ledger.balance()
    assert (balance.opened, balance.consumed, balance.live) == (1, 1, 0)
    assert balance.holds
    assert await ledger.manifests() == {}
    assert await ledger.episodes_of("g1") == []
    assert await redis.exists(keys.scores(JOB, "g1")) == 0
    for stream in (keys.groups_stream(JOB), keys.episodes_stream(JOB), keys.scored_stream(JOB)):
        assert await redis.xlen(stream) == 0


async def test_records_of_ended_groups_expire_and_those_of_live_ones_do_not(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    for name in ("consumed", "dropped", "failed", "live"):
        await ledger.open(epoch, opened(name), 1)
    await play(ledger, opened("consumed"))
    await ledger.score(scores("consumed"))
    await ledger.assign(epoch, 0, "{}", ["consumed"])
    await ledger.consume(epoch, 0, ["consumed"])
    await ledger.drop(epoch, "dropped", DropReason.STALE)
    await ledger.fail("failed", (await ledger.start("failed", "w")).number, "the world is gone")
    left_s = {name: await redis.ttl(keys.group(JOB, name)) for name in ("consumed", "dropped", "failed", "live")}
    assert left_s.pop("live") == -1, "it never expires"
    assert all(0 < seconds <= KEEP_RECORD_S for seconds in left_s.values()), left_s


async def test_opening_again_returns_the_state_and_counts_once(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await ledger.open(epoch, opened(), 3)
    await ledger.start("g1", "w")
    assert await ledger.open(epoch, opened(), 3) is GroupState.GENERATING
    assert (await ledger.balance()).opened == 1
    assert await redis.xlen(keys.groups_stream(JOB)) == 1


async def test_each_move_announces_the_group_to_the_next_service(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch, group = await ledger.claim_epoch(), opened()
    await ledger.open(epoch, group, 3)
    rollout = StreamConsumer(redis, keys.groups_stream(JOB), ROLLOUT, "w")
    advantage = StreamConsumer(redis, keys.episodes_stream(JOB), ADVANTAGE, "a")
    trainer = StreamConsumer(redis, keys.scored_stream(JOB), TRAINER, "t")
    (entry,) = await rollout.read(8, block_ms=10)
    assert decode(entry.payload, OpenedGroup) == group
    await play(ledger, group)
    (entry,) = await advantage.read(8, block_ms=10)
    assert decode(entry.payload, CompleteGroup).group_id == "g1"
    await ledger.score(scores())
    (entry,) = await trainer.read(8, block_ms=10)
    assert entry.payload == b"g1"
    assert (await redis.xpending(keys.groups_stream(JOB), ROLLOUT))["pending"] == 0
    assert (await redis.xpending(keys.episodes_stream(JOB), ADVANTAGE))["pending"] == 0


async def test_an_old_epoch_moves_nothing(redis: Redis):
    ledger = Ledger(redis, JOB)
    old = await ledger.claim_epoch()
    await ledger.open(old, opened(), 3)
    await ledger.claim_epoch()
    for move in (
        ledger.open(old, opened("g2"), 3),
        ledger.assign(old, 0, "{}", ["g1"]),
        ledger.consume(old, 0, ["g1"]),
        ledger.drop(old, "g1", DropReason.CANCELLED),
    ):
        with pytest.raises(StaleEpoch):
            await move
    assert await state(ledger) is GroupState.OPEN


async def test_a_new_attempt_fences_the_one_before(redis: Redis):
    ledger = Ledger(redis, JOB)
    group = opened()
    await ledger.open(await ledger.claim_epoch(), group, 3)
    first = (await ledger.start("g1", "slow")).number
    await ledger.record(episode(0, first), group)
    second = (await ledger.start("g1", "fast")).number
    assert second == first + 1
    with pytest.raises(MoveRefused, match="attempt 2 replaced attempt 1"):
        await ledger.record(episode(1, first), group)
    with pytest.raises(MoveRefused):
        await ledger.fail("g1", first, "late")
    assert await ledger.episodes_of("g1") == []  # nothing of the first attempt is mixed in


@pytest.mark.parametrize("reason", [DropReason.INFRA, DropReason.ENV_BUG, DropReason.UNPLAYABLE])
async def test_failed_attempts_are_retried_then_dropped_for_the_reason_of_the_last(redis: Redis, reason: DropReason):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 2)
    assert await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env lost") is GroupState.OPEN
    assert await redis.xlen(keys.groups_stream(JOB)) == 1
    number = (await ledger.start("g1", "w")).number
    assert await ledger.fail("g1", number, "env lost", reason=reason) is GroupState.DROPPED
    record, balance = await ledger.record_of("g1"), await ledger.balance()
    assert record is not None
    assert (record.reason, record.cause) == (reason, "env lost")
    assert balance.holds
    assert (balance.dropped[reason], balance.retried, balance.live) == (1, 1, 0)
    assert await redis.xlen(keys.groups_stream(JOB)) == 0


async def test_an_attempt_that_was_cut_short_is_no_failed_one(redis: Redis):
    """A pause, a drain or a dead worker ends an attempt without a word; only what failed counts."""
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 2)
    for _ in range(5):
        await ledger.start("g1", "w")
    assert await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env lost") is GroupState.OPEN
    assert await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env lost") is GroupState.DROPPED


async def test_an_attempt_that_was_lost_with_the_machinery_is_no_failed_one(redis: Redis):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 2)
    for _ in range(5):
        number = (await ledger.start("g1", "w")).number
        assert await ledger.fail("g1", number, "env gone", lost=True) is GroupState.OPEN
    assert await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env lost") is GroupState.OPEN
    assert (await ledger.balance()).retried == 6
    assert await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env lost") is GroupState.DROPPED


async def test_a_group_that_loses_everything_it_is_played_with_is_dropped_in_the_end(redis: Redis):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 2)
    states = [
        await ledger.fail("g1", (await ledger.start("g1", "w")).number, "env gone", lost=True)
        for _ in range(MOST_LOSSES)
    ]
    assert states == [GroupState.OPEN] * (MOST_LOSSES - 1) + [GroupState.DROPPED]
    assert (await ledger.balance()).holds


async def test_a_start_that_the_connection_repeats_is_one_attempt(redis: Redis):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 2)
    names, args = [keys.group(JOB, "g1"), keys.episodes(JOB, "g1")], ["w", "one call"]
    assert [await ledger._run("start", names, args) for _ in range(2)] == [[1, 1], [1, 1]]
    assert await ledger.start("g1", "w") == Attempt(2, 1)


async def test_an_attempt_repeats_the_draw_of_the_one_before_unless_that_asked_for_another(redis: Redis):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 9)
    assert await ledger.start("g1", "killed") == Attempt(1, 1)
    assert await ledger.start("g1", "w") == Attempt(2, 1)
    await ledger.fail("g1", 2, "env lost")
    assert await ledger.start("g1", "w") == Attempt(3, 1)
    await ledger.fail("g1", 3, "the environment raised", reason=DropReason.ENV_BUG)
    assert await ledger.start("g1", "w") == Attempt(4, 2)
    await ledger.fail("g1", 4, "env lost")
    assert await ledger.start("g1", "w") == Attempt(5, 2)


async def test_a_batch_is_assigned_wholly_or_not_at_all(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    for name in ("g1", "g2"):
        await ledger.open(epoch, opened(name), 3)
    await play(ledger, opened("g1"))
    await ledger.score(scores("g1"))
    with pytest.raises(MoveRefused, match="OPEN"):
        await ledger.assign(epoch, 0, "{}", ["g1", "g2"])
    assert await state(ledger, "g1") is GroupState.SCORED
    assert await ledger.manifests() == {}


async def test_assigning_again_changes_nothing_but_only_to_the_same_batch(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await ledger.open(epoch, opened(), 3)
    await play(ledger, opened())
    await ledger.score(scores())
    for _ in range(2):  # the answer to the first one may have been lost with the connection
        await ledger.assign(epoch, 4, "{}", ["g1"])
    for batch, manifest in ((5, "{}"), (4, '{"other": 1}')):
        with pytest.raises(MoveRefused, match="ASSIGNED"):
            await ledger.assign(epoch, batch, manifest, ["g1"])
    assert await ledger.manifests() == {4: "{}"}


async def test_scoring_twice_takes_the_same_bytes_only(redis: Redis):
    ledger = Ledger(redis, JOB)
    await ledger.open(await ledger.claim_epoch(), opened(), 3)
    with pytest.raises(MoveRefused, match="OPEN"):
        await ledger.score(scores())
    await play(ledger, opened())
    await ledger.score(scores())
    assert await ledger.score(scores()) is GroupState.SCORED
    with pytest.raises(MoveRefused, match="other scores"):
        await ledger.score(scores(sha="bb"))
    assert await redis.xlen(keys.scored_stream(JOB)) == 1


@pytest.mark.parametrize("upto", range(5))
async def test_a_group_can_be_dropped_from_every_live_state_and_from_no_other(redis: Redis, upto: int):
    ledger = Ledger(redis, JOB)
    epoch, group = await ledger.claim_epoch(), opened()
    await ledger.open(epoch, group, 3)
    if upto >= 1:
        attempt = (await ledger.start("g1", "w")).number
    if upto >= 2:
        for k in range(2):
            await ledger.record(episode(k, attempt), group)
    if upto >= 3:
        await ledger.score(scores())
    if upto >= 4:
        await ledger.assign(epoch, 0, "{}", ["g1"])
    assert await ledger.drop(epoch, "g1", DropReason.STALE)
    assert not await ledger.drop(epoch, "g1", DropReason.STALE)
    balance = await ledger.balance()
    assert balance.holds
    assert (balance.dropped["stale"], balance.live) == (1, 0)
    for stream in (keys.groups_stream(JOB), keys.episodes_stream(JOB), keys.scored_stream(JOB)):
        assert await redis.xlen(stream) == 0


async def test_any_order_of_moves_keeps_the_balance(redis: Redis):
    """A random walk over all moves, refused ones included: the invariant holds after each."""
    rng, ledger = random.Random(0), Ledger(redis, JOB)
    epoch, names = await ledger.claim_epoch(), [f"g{i}" for i in range(12)]
    attempts: dict[str, int] = {}
    for turn in range(600):
        name = rng.choice(names)
        move = rng.choice(["open", "start", "record", "record", "fail", "score", "assign", "consume", "drop"])
        try:
            if move == "open":
                await ledger.open(epoch, opened(name), 2)
            elif move == "start":
                attempts[name] = (await ledger.start(name, "w")).number
            elif move == "record":
                await ledger.record(episode(rng.randrange(2), attempts.get(name, 1), name), opened(name))
            elif move == "fail":
                await ledger.fail(name, attempts.get(name, 1), "cause")
            elif move == "score":
                await ledger.score(scores(name))
            elif move == "assign":
                await ledger.assign(epoch, turn, "{}", [name])
            elif move == "consume":
                await ledger.consume(epoch, turn, [name])
            elif rng.random() < 0.2:
                await ledger.drop(epoch, name, DropReason.CANCELLED)
        except MoveRefused:
            pass
        balance = await ledger.balance()
        assert balance.holds, (turn, move, balance)
        assert len(await ledger.live()) == balance.live


@pytest.mark.parametrize("stream", [keys.groups_stream(JOB), keys.episodes_stream(JOB), keys.scored_stream(JOB)])
async def test_a_value_of_another_type_in_a_streams_place_is_set_aside(redis: Redis, stream: str):
    await redis.set(stream, "spoiled")
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    assert await ledger.open(epoch, opened(), 3) is GroupState.OPEN
    await play(ledger, opened())
    assert await ledger.score(scores()) is GroupState.SCORED
    assert await redis.get(f"{stream}:misplaced") == b"spoiled"
    assert (await ledger.balance()).opened == 1


async def lose(redis: Redis, stream: str, how: str) -> None:
    match how:
        case "no stream":
            await redis.delete(stream)
        case "no entry":
            await redis.xtrim(stream, maxlen=0, approximate=False)
        case "another type":
            await redis.delete(stream)
            await redis.set(stream, "x")
        case "another id":
            await redis.hset(keys.group(JOB, "g1"), "message", "x")


@pytest.mark.parametrize("how", ["no stream", "no entry", "another type", "another id"])
@pytest.mark.parametrize("reached", [GroupState.OPEN, GroupState.GENERATING, GroupState.COMPLETE])
async def test_a_group_whose_entry_was_lost_is_announced_again_and_comes_to_its_end(
    redis: Redis, reached: GroupState, how: str
):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await ledger.open(epoch, opened(), 3)
    if reached is GroupState.COMPLETE:
        await play(ledger, opened())
    elif reached is GroupState.GENERATING:
        await ledger.start("g1", "w")
    assert await ledger.lost(["g1", "unknown"]) == {}
    stream = keys.episodes_stream(JOB) if reached is GroupState.COMPLETE else keys.groups_stream(JOB)
    await lose(redis, stream, how)
    lost = await ledger.lost(["g1"])
    assert await ledger.announce(epoch, "g1", lost["g1"])
    assert not await ledger.announce(epoch, "g1", lost["g1"])
    with pytest.raises(StaleEpoch):
        await ledger.announce(epoch + 1, "g1", lost["g1"])
    assert await ledger.lost(["g1"]) == {}
    reader = StreamConsumer(redis, stream, ADVANTAGE if reached is GroupState.COMPLETE else ROLLOUT, "w")
    payload = (await reader.read(8, block_ms=10))[-1].payload
    if reached is GroupState.COMPLETE:
        assert decode(payload, CompleteGroup).group_id == "g1"
    else:
        assert decode(payload, OpenedGroup) == opened()
        await play(ledger, opened())
    await ledger.score(scores())
    await ledger.assign(epoch, 0, "{}", ["g1"])
    await ledger.consume(epoch, 0, ["g1"])
    assert (await ledger.balance()).holds
    assert await redis.xlen(keys.scored_stream(JOB)) == 0


async def test_an_entry_that_is_lost_costs_seconds(redis: Redis, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(arrivals, "LOST_EVERY_S", 0.0)
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await ledger.open(epoch, opened(), 3)
    await redis.delete(keys.groups_stream(JOB))
    waiting = arrivals.Arrivals(redis, ledger, "trainer", poll_s=0.01)
    while not await redis.exists(keys.groups_stream(JOB)):
        assert await waiting.wait(epoch, ["g1"]) == {}
    await redis.hset(keys.group(JOB, "g1"), "opened", "x")
    await redis.delete(keys.groups_stream(JOB))
    while await waiting.wait(epoch, ["g1"]) != {"g1": GroupState.DROPPED}:
        pass
    assert "cannot be read" in waiting.causes["g1"]


async def test_a_spoiled_ledger_is_named_with_its_key(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await redis.set(keys.live(JOB), "spoiled")
    with pytest.raises(LedgerSpoiled, match=r"\{job_1\}:live is a string"):
        await ledger.open(epoch, opened(), 3)


async def test_strangers_among_counters_groups_and_manifests_are_no_ledger(redis: Redis):
    ledger = Ledger(redis, JOB)
    epoch = await ledger.claim_epoch()
    await ledger.open(epoch, opened(), 3)
    await redis.hset(keys.ledger(JOB), mapping={b"q": b"x", b"\xff": b"\xff", b"": b"1.5", b"big": b"9" * 5_000})
    await redis.sadd(keys.live(JOB), b"\xff\xfe", "nobody", "")
    await redis.hset(keys.manifests(JOB), mapping={b"\xff": b"x", b"9" * 5_000: b"x", b"--1": b"x", b"7": b"\xff"})
    await ledger.forget_strangers()
    books = await ledger.seal(epoch, [])
    assert (books.live, books.counters) == (["g1"], {"opened": 1, "opened:train": 1, "seal": 1})
    assert (await ledger.balance()).holds
    assert await ledger.manifests() == {}
    await redis.hset(keys.ledger(JOB), "opened", "many")
    with pytest.raises(RecordUnreadable, match="opened"):
        await ledger.seal(epoch, [])
