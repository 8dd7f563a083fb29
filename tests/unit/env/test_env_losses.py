"""Lost sessions are replayed from their history, or end as a fault; a group can begin at a history too."""

import pytest

from services.env.sessions import errors
from services.env.sessions.leases import Fault, FaultClass
from services.env.workers.wire import EpisodeSpec, History, Stepped
from tests.unit.env.adder_groups import ADDER, UNREPLAYABLE, died, hung, opened


@pytest.mark.parametrize("place", ["step", "stepped"])
async def test_a_lost_session_is_replayed_and_the_step_taken_there(service, homes, place):
    lease = await opened(service)
    await service.step(lease, 1, "3")
    homes.losses[place] = [died()]
    answer = await service.step(lease, 2, "4")
    assert isinstance(answer, Stepped)
    assert answer.observation.text == "7"
    assert (await service.step(lease, 3, "3")).won
    assert homes.live == 0


async def test_a_session_lost_between_steps_is_replayed_at_the_next(service, homes):
    lease = await opened(service)
    await service.step(lease, 1, "3")
    homes.lose()
    assert (await service.step(lease, 2, "1")).observation.text == "4"


async def test_losses_that_others_caused_are_forgiven_more_often(service, homes):
    lease = await opened(service)
    homes.losses["step"] = [died(running=False) for _ in range(4)]
    assert isinstance(await service.step(lease, 1, "3"), Stepped)


async def test_too_many_losses_end_as_a_fault_of_the_infrastructure(service, homes):
    lease = await opened(service)
    homes.losses["step"] = [died(running=False) for _ in range(5)]
    assert (await service.step(lease, 1, "3")).fault_class is FaultClass.INFRA


async def test_a_step_that_kills_two_workers_is_a_fault_and_is_not_tried_again(service, homes):
    lease = await opened(service)
    homes.losses["step"] = [died(), died()]
    answer = await service.step(lease, 1, "3")
    assert isinstance(answer, Fault)
    assert answer.fault_class is FaultClass.INFRA
    assert await service.step(lease, 1, "3") is answer
    with pytest.raises(errors.EpisodeOverError):
        await service.step(lease, 2, "3")


async def test_where_no_worker_came_up_nothing_is_tried_again(service, homes):
    left = died()
    homes.losses["open"] = [errors.NoWorkerError("no worker came up: no memory"), left]
    with pytest.raises(errors.NoWorkerError, match="no memory"):
        await opened(service)
    assert homes.losses["open"] == [left]


async def test_a_session_that_is_lost_when_no_worker_comes_up_is_a_fault(service, homes):
    lease = await opened(service)
    left = died()
    homes.losses |= {"step": [died()], "open": [errors.NoWorkerError("no worker came up: no memory"), left]}
    answer = await service.step(lease, 1, "3")
    assert answer == Fault(FaultClass.INFRA, "the session could not be rebuilt: no worker came up: no memory")
    assert homes.losses["open"] == [left]


async def test_where_no_more_workers_may_live_a_lost_session_is_a_fault(service, homes):
    lease = await opened(service)
    homes.losses |= {"step": [died()], "open": [errors.NoRoomError("at most 2 may live", 5.0)]}
    answer = await service.step(lease, 1, "3")
    assert answer == Fault(FaultClass.INFRA, "the session could not be rebuilt: at most 2 may live")


async def test_a_step_that_hangs_is_a_fault_at_once(service, homes):
    lease = await opened(service)
    homes.losses["step"] = [hung()]
    answer = await service.step(lease, 1, "3")
    assert isinstance(answer, Fault)
    assert answer.fault_class is FaultClass.INFRA


async def test_what_cannot_be_replayed_ends_as_a_fault_of_the_infrastructure(service, homes):
    lease = await opened(service, UNREPLAYABLE)
    homes.losses["step"] = [died(running=False)]
    assert (await service.step(lease, 1, "3")).fault_class is FaultClass.INFRA


async def test_a_replay_that_shows_something_else_ends_as_a_fault_not_as_another_episode(service, homes):
    lease = await opened(service, EpisodeSpec("adder", '{"start": 99}', "", 0))
    homes.lose()
    answer = await service.step(lease, 1, "3")
    assert answer.fault_class is FaultClass.INFRA
    assert "another observation after 0 steps" in answer.message
    assert homes.live == 0


@pytest.mark.parametrize(
    ("action", "fault_class"),
    [
        ("raise", FaultClass.ENV_BUG),
        ("nan", FaultClass.ENV_BUG),
        ("none", FaultClass.ENV_BUG),
        ("exit", FaultClass.ENV_BUG),
        ("model", FaultClass.MODEL),
    ],
)
async def test_what_fails_inside_the_environment_has_its_class_and_no_reward(service, homes, action, fault_class):
    group = await service.open_group("key", ADDER, 2)
    answer = await service.step(group.leases[0], 1, action)
    assert isinstance(answer, Fault)
    assert answer.fault_class is fault_class
    assert (await service.step(group.leases[1], 1, "3")).observation.text == "3"
    assert homes.live == 1


async def test_a_group_can_begin_where_a_history_leads(service, homes):
    lease = await opened(service)
    seen = [await service.step(lease, 1, "3"), await service.step(lease, 2, "4")]
    homes.lose()
    digests = tuple(service._leases.find(lease, 0.0).digests)
    history = History(("3", "4"), digests)
    group = await service.open_group("again", ADDER, 2, history=history)
    assert (group.observation, group.score) == (seen[-1].observation, 0.0)
    assert (await service.step(group.leases[0], 3, "3")).won
    assert (await service.step(group.leases[1], 3, "1")).observation.text == "8"
    homes.lose()
    assert (await service.step(group.leases[1], 4, "2")).won


async def test_a_rebuilt_session_is_told_again_how_long_the_responses_were(service, homes):
    lease = await opened(service, EpisodeSpec("adder", '{"counts_tokens": true}', "", 0))
    assert (await service.step(lease, 1, "1", response_tokens=7)).score == 7.0
    homes.lose()
    assert (await service.step(lease, 2, "1", response_tokens=5)).score == 12.0
    history = History(("1", "1"), (), (7, 5))
    group = await service.open_group(
        "again", EpisodeSpec("adder", '{"counts_tokens": true}', "", 0), 1, history=history
    )
    assert group.score == 12.0
    assert (await service.step(group.leases[0], 3, "1", response_tokens=1)).score == 13.0


@pytest.mark.parametrize("seq", [0, 1, 2, 4])
async def test_the_first_step_after_a_history_follows_on_it(service, seq):
    group = await service.open_group("key", ADDER, 1, history=History(("3", "4")))
    with pytest.raises(errors.SequenceError, match=f"want 3, got {seq}"):
        await service.step(group.leases[0], seq, "1")


@pytest.mark.parametrize(
    ("spec", "history", "error", "message"),
    [
        (ADDER, History(("3",), (b"x",)), errors.BadRequestError, "digests: want none or 2"),
        (ADDER, History(("3",), (), (1, 2)), errors.BadRequestError, "response_tokens: want none or one per action, 1"),
        (ADDER, History(("3",), (b"x", b"y")), errors.DivergedError, "another observation after 0 steps"),
        (ADDER, History(("3", "7")), errors.BadRequestError, "over after 2 of 2"),
        (ADDER, History(("3", "x" * 101)), errors.BadRequestError, r"actions\[1\]: want at most 100 bytes"),
        (ADDER, History(("raise",)), errors.ResetFaultError, "adder is broken"),
        (UNREPLAYABLE, History(("3",)), errors.NotReplayableError, "not deterministic"),
    ],
)
async def test_a_history_that_cannot_be_gone_through_opens_nothing(service, homes, spec, history, error, message):
    with pytest.raises(error, match=message):
        await service.open_group("key", spec, 2, history=history)
    assert homes.live == 0
    assert await service.open_group("key", spec, 6)
