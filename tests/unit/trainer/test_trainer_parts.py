"""The parts of a session, each by itself."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from services.contracts import keys
from services.ledger import DropReason, GroupState, StaleEpoch
from services.trainer.errors import CancelRequested, DrainRequested, JobFailed, PauseRequested
from services.trainer.groups.playability import FIRST_GROUPS, Playability, TooManyBroken
from services.trainer.groups.settlement import Settlement, SettlementKind, settlement_of, training_manifests
from services.trainer.groups.training_queue import TrainingQueue
from services.trainer.session.commands import Commands
from services.trainer.session.consumption import Consumption
from tests.unit.trainer.trainer_loop import JOB, loop_spec


def queue(opened: int = 0, **position: int) -> TrainingQueue:
    """Batches of 2, at most one version old, with the first groups opened."""
    found = TrainingQueue(loop_spec(), **position)
    for cursor in range(opened):
        found.opened(cursor, f"g{cursor}", GroupState.OPEN)
    return found


def test_the_next_batch_is_the_first_groups_once_all_of_them_are_scored():
    groups = queue(opened=3)
    groups.scored(["g1", "g2"])
    assert (groups.next_batch(), groups.missing(), groups.unscored()) == (None, ["g0"], {"g0"})
    groups.scored(["g0"])
    assert (groups.next_batch(), groups.missing(), groups.unscored()) == (["g0", "g1"], [], set())
    groups.cut(["g0", "g1"])
    assert (groups.next_batch(), groups.cursors, groups.lost) == (None, [2], 0)


def test_by_arrival_the_next_batch_is_of_those_scored_first_in_order_of_cursor():
    groups = TrainingQueue(loop_spec(rollout={"batch_order": "arrival"}))
    for cursor in range(4):
        groups.opened(cursor, f"g{cursor}", GroupState.OPEN)
    groups.scored(["g3"])
    assert (groups.next_batch(), groups.missing()) == (None, ["g0"])
    groups.scored(["g1"])
    groups.scored(["g0"])
    assert (groups.next_batch(), groups.missing()) == (["g1", "g3"], [])
    assert groups.passed_over(["g1", "g3"]) == 2
    groups.cut(["g1", "g3"])
    assert (groups.next_batch(), groups.missing()) == (None, ["g2"])


def test_a_lost_group_makes_room_for_one_more_cursor():
    groups = queue(opened=4)
    assert groups.next_due(version=0) is None
    groups.scored(["g0"])
    groups.lose("g0")
    assert (groups.next_due(version=0), groups.cursors, groups.lost) == (4, [1, 2, 3], 1)
    groups.opened(4, "g4", GroupState.OPEN)
    assert groups.next_due(version=0) is None


def test_groups_that_an_earlier_trainer_opened_take_the_place_that_they_have_by_now():
    groups = queue(next_cursor=4)
    states = [GroupState.CONSUMED, GroupState.ASSIGNED, GroupState.DROPPED, GroupState.COMPLETE]
    for cursor, state in enumerate(states):
        groups.opened(cursor, f"g{cursor}", state)
    assert (groups.cursors, groups.lost, groups.next_cursor) == ([3], 1, 4)
    assert groups.next_due(version=0) == 4


def given_up(playability: Playability, first: Sequence[str], purpose="train") -> None:
    for name in first:
        playability.given_up({name: f"no such level {name}"}, purpose, first)  # causes that differ in a number alone


def test_the_first_groups_decide_when_all_were_given_up_for_one_cause():
    first = [str(number) for number in range(FIRST_GROUPS)]
    with pytest.raises(JobFailed, match=rf"none of the first {FIRST_GROUPS} groups \(eval\).*no such level"):
        given_up(Playability(), first, "eval")
    given_up(Playability(), first[:-1])


def test_one_played_group_of_a_purpose_or_another_cause_keeps_the_job():
    first = [str(number) for number in range(FIRST_GROUPS)]
    playability = Playability()
    playability.played("train")
    given_up(playability, first)
    assert playability.last_cause == "no such level 7"
    with pytest.raises(JobFailed):
        given_up(playability, first, "eval")
    playability = Playability()
    playability.given_up({"0": "another cause"}, "train", first)
    playability.given_up({name: "no such level" for name in first[1:]}, "train", first)


def test_groups_after_the_first_ones_do_not_decide():
    first, later = [str(n) for n in range(FIRST_GROUPS)], {f"later {n}": "no such level" for n in range(FIRST_GROUPS)}
    Playability().given_up(later, "train", first)


def test_an_environment_that_breaks_late_is_found_among_the_newest_groups():
    playability = Playability()
    for cursor in range(4_000, 4_020):
        playability.broken(cursor, DropReason.ENV_BUG, "KeyError", opened=cursor + 64, under_way=64)
    with pytest.raises(TooManyBroken, match=r"21 of 200 training groups"):
        playability.broken(4_020, DropReason.ENV_BUG, "KeyError", opened=4_084, under_way=64)


def test_groups_under_way_count_as_played():
    """Attempts that raise end sooner than those that are played."""
    playability = Playability()
    for cursor in range(100):
        playability.broken(cursor, DropReason.ENV_BUG, "KeyError", opened=1_000, under_way=900)
    with pytest.raises(TooManyBroken):
        playability.broken(100, DropReason.ENV_BUG, "KeyError", opened=1_000, under_way=899)


def test_every_settlement_has_ledger_numbers_of_its_own_and_is_found_by_them():
    settlements = [Settlement(SettlementKind.EVALUATION, round_) for round_ in (0, 1, 2, 16, 100_016)]
    settlements += [Settlement(SettlementKind.WARM_START), Settlement(SettlementKind.LEFTOVERS)]
    numbers = {settlement.batch_number(chunk): settlement for settlement in settlements for chunk in (0, 1, 4_095)}
    assert len(numbers) == 3 * len(settlements)
    assert {number: settlement_of(number) for number in numbers} == numbers


def test_the_ledgers_numbers_are_those_of_earlier_releases():
    assert Settlement(SettlementKind.EVALUATION, 0).batch_number(0) == -1
    assert Settlement(SettlementKind.EVALUATION, 17).batch_number(2) == -1 - 17 * 4_096 - 2
    assert Settlement(SettlementKind.WARM_START).batch_number(3) == -1_000_000_003
    assert Settlement(SettlementKind.LEFTOVERS).batch_number(0) == -2_000_000_000


def test_a_chunk_that_would_be_anothers_is_refused():
    for settlement, chunk in (
        (Settlement(SettlementKind.EVALUATION, 1), 4_096),
        (Settlement(SettlementKind.WARM_START), -1),
    ):
        with pytest.raises(ValueError, match="no chunk"):
            settlement.batch_number(chunk)


def test_training_manifests_are_those_of_batches_in_order():
    assert settlement_of(0) is None
    assert list(training_manifests({3: "c", -1: "{}", 0: "a", -2_000_000_000: "{}"})) == [0, 3]


class ConsumingLedger:
    def __init__(self) -> None:
        self.consumed: list[tuple[int, int, list[str]]] = []

    async def consume(self, epoch: int, batch: int, group_ids: list[str]) -> None:
        self.consumed.append((epoch, batch, group_ids))


async def test_payloads_stay_until_nobody_may_train_them_again():
    ledger = ConsumingLedger()
    consumption = Consumption(ledger, epoch=3)  # type: ignore[arg-type]
    for batch in range(4):
        consumption.trained(batch, [f"g{batch}"])
    await consumption.saved(2, replayable_from=0)
    assert (ledger.consumed, consumption.is_saved(2), consumption.is_saved(3)) == ([], True, False)
    await consumption.saved(4, replayable_from=2)
    assert ledger.consumed == [(3, 0, ["g0"]), (3, 1, ["g1"])]
    await consumption.finished()
    assert [batch for _, batch, _ in ledger.consumed] == [0, 1, 2, 3]


class StringRedis:
    """Strings, and no refusals."""

    def __init__(self, **strings: bytes) -> None:
        self.strings = strings

    async def mget(self, names: list[str]) -> list[bytes | None]:
        return [self.strings.get(name) for name in names]

    async def hgetall(self, name: str) -> dict[bytes, bytes]:
        return {}


class EpochLedger:
    job, newest = JOB, 1

    async def newest_epoch(self) -> int:
        return self.newest


def commands(command: bytes | None, *, draining: bool = False, started_unix_s: float = 2e9) -> Commands:
    redis = StringRedis(**({} if command is None else {keys.control(JOB): command}))
    return Commands(
        redis, EpochLedger(), 1, lambda: draining, started_unix_s=started_unix_s, max_wall_s=60.0  # type: ignore[arg-type]
    )  # fmt: skip


async def test_without_a_reason_to_stop_a_session_goes_on():
    await commands(None).check()
    await commands(b"run").check()


@pytest.mark.parametrize(
    ("stopped", "error"),
    [
        (commands(b"cancel", draining=True), CancelRequested),
        (commands(b"pause", draining=True), PauseRequested),
        (commands(b"run", draining=True, started_unix_s=0.0), DrainRequested),
        (commands(None, started_unix_s=0.0), JobFailed),
    ],
)
async def test_what_the_user_wants_goes_before_a_drain_and_a_drain_before_the_clock(
    stopped: Commands, error: type[Exception]
):
    with pytest.raises(error):
        await stopped.check()


async def test_a_newer_trainer_goes_before_everything(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(EpochLedger, "newest", 2)
    with pytest.raises(StaleEpoch):
        await commands(b"cancel").check()
