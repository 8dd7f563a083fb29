"""The use cases over sessions in the test's own process: order of steps, repeats, leases, limits."""

import asyncio

import pytest

from services.env.sessions import errors
from services.env.sessions.leases import Fault
from services.env.workers.wire import EpisodeSpec
from tests.unit.env.adder_groups import ADDER, died, hung, opened


async def test_a_group_has_n_leases_and_one_first_observation(service, homes):
    group = await service.open_group("key", EpisodeSpec("adder", '{"start": 2}', "", 1), 4)
    assert len(set(group.leases)) == 4
    assert (group.observation.text, group.observation.task) == ("3", "reach 10")
    assert homes.live == 4


async def test_sessions_of_a_group_go_their_own_ways(service):
    group = await service.open_group("key", ADDER, 2)
    one = await service.step(group.leases[0], 1, "3")
    other = await service.step(group.leases[1], 1, "4")
    assert (one.observation.text, other.observation.text) == ("3", "4")


async def test_winning_ends_the_episode_with_its_reward_and_frees_the_session(service, homes):
    lease = await opened(service)
    first = await service.step(lease, 1, "4")
    last = await service.step(lease, 2, "6")
    assert (first.reward, first.terminated, last.reward, last.won, last.terminated) == (0.0, False, 1.0, True, True)
    assert homes.live == 0
    with pytest.raises(errors.EpisodeOverError):
        await service.step(lease, 3, "1")


async def test_a_repeated_seq_gives_the_first_answer_and_acts_once(service):
    lease = await opened(service)
    first = await service.step(lease, 1, "3")
    assert await service.step(lease, 1, "3") is first
    assert await service.step(lease, 1, "5") is first
    assert (await service.step(lease, 2, "1")).observation.text == "4"


async def test_the_last_step_of_an_episode_can_be_asked_again(service):
    lease = await opened(service)
    last = await service.step(lease, 1, "10")
    assert await service.step(lease, 1, "10") is last


@pytest.mark.parametrize("seq", [0, 1, 4, 7])
async def test_a_gap_or_a_long_answered_seq_is_refused_and_changes_nothing(service, seq):
    lease = await opened(service)
    await service.step(lease, 1, "1")
    await service.step(lease, 2, "1")
    with pytest.raises(errors.SequenceError, match=f"want 2 again or 3, got {seq}"):
        await service.step(lease, seq, "1")
    assert (await service.step(lease, 3, "1")).observation.text == "3"


async def test_seq_zero_is_refused_before_the_first_step(service):
    lease = await opened(service)
    with pytest.raises(errors.SequenceError):
        await service.step(lease, 0, "1")


async def test_a_step_before_the_last_is_answered_is_refused_and_a_repeat_joins_it(service, homes):
    lease = await opened(service)
    homes.gate.clear()
    first = asyncio.create_task(service.step(lease, 1, "3"))
    await asyncio.sleep(0)
    again = asyncio.create_task(service.step(lease, 1, "3"))
    with pytest.raises(errors.SequenceError, match="came before seq 1 was answered"):
        await service.step(lease, 2, "3")
    homes.gate.set()
    assert await first is await again
    assert (await service.step(lease, 2, "1")).observation.text == "4"


async def test_a_caller_that_goes_away_does_not_take_the_step_back(service, homes):
    lease = await opened(service)
    homes.gate.clear()
    call = asyncio.create_task(service.step(lease, 1, "3"))
    await asyncio.sleep(0)
    call.cancel()
    homes.gate.set()
    assert (await service.step(lease, 1, "3")).observation.text == "3"


async def test_a_call_that_waits_too_long_says_so_and_can_be_repeated(make_service, homes):
    service = make_service(call_timeout_s=0.01)
    lease = await opened(service)
    homes.gate.clear()
    with pytest.raises(errors.NotDoneError):
        await service.step(lease, 1, "3")
    homes.gate.set()
    assert (await service.step(lease, 1, "3")).observation.text == "3"


async def test_a_repeated_key_gives_the_same_group(service, homes):
    one, other = await asyncio.gather(*(service.open_group("key", ADDER, 2) for _ in range(2)))
    assert one.leases == other.leases == (await service.open_group("key", ADDER, 2)).leases
    assert homes.live == 2


async def test_a_key_cannot_name_two_different_groups(service):
    await service.open_group("key", ADDER, 2)
    for spec, n in ((ADDER, 3), (EpisodeSpec("adder", "", "", 1), 2)):
        with pytest.raises(errors.KeyReusedError):
            await service.open_group("key", spec, n)


async def test_a_key_counts_as_new_once_its_group_has_ended(service):
    first = await service.open_group("key", ADDER, 2)
    assert service.close(first.leases) == 2
    second = await service.open_group("key", ADDER, 2)
    assert not set(first.leases) & set(second.leases)


async def test_a_key_whose_opening_failed_can_be_tried_again(service, homes):
    homes.losses["open"] = [died(), died()]
    with pytest.raises(errors.WorkerLostError):
        await service.open_group("key", ADDER, 1)
    assert (await service.open_group("key", ADDER, 1)).leases


async def test_an_opening_survives_one_lost_worker(service, homes):
    homes.losses["open"] = [died()]
    assert len((await service.open_group("key", ADDER, 3)).leases) == 3


async def test_a_reset_that_hangs_is_not_tried_again(service, homes):
    homes.losses["open"] = [hung()]
    with pytest.raises(errors.ResetHungError):
        await service.open_group("key", ADDER, 2)
    assert homes.live == 0


async def test_first_observations_that_differ_open_nothing(service, homes):
    with pytest.raises(errors.ResetFaultError, match="different observations"):
        await service.open_group("key", EpisodeSpec("adder", '{"start": 99}', "", 0), 2)
    assert homes.live == 0


@pytest.mark.parametrize(
    ("spec", "n", "key", "error", "wanted"),
    [
        (EpisodeSpec("nothing", "", "", 0), 1, "k", errors.UnknownEnvironmentError, "nothing"),
        (EpisodeSpec("adder", '{"strat": 1}', "", 0), 1, "k", errors.BadRequestError, "strat"),
        (EpisodeSpec("adder", '{"start": -1}', "", 0), 1, "k", errors.BadRequestError, "start"),
        (EpisodeSpec("adder", "{", "", 0), 1, "k", errors.BadRequestError, "kwargs"),
        (EpisodeSpec("adder", "", "test", 0), 1, "k", errors.BadRequestError, "split"),
        (ADDER, 0, "k", errors.BadRequestError, "n: want 1 to 16, got 0"),
        (ADDER, 17, "k", errors.BadRequestError, "n"),
        (ADDER, 1, "", errors.BadRequestError, "idempotency_key"),
    ],
)
async def test_a_bad_request_is_refused_by_name(service, homes, spec, n, key, error, wanted):
    with pytest.raises(error, match=wanted):
        await service.open_group(key, spec, n)
    assert homes.live == 0


async def test_an_oversized_action_is_refused_and_the_turn_is_not_taken(service):
    lease = await opened(service)
    with pytest.raises(errors.BadRequestError, match="want at most 100 bytes, got 102"):
        await service.step(lease, 1, "é" * 51)
    assert (await service.step(lease, 1, "3")).observation.text == "3"


async def test_no_more_leases_live_than_allowed_and_the_refusal_says_when_to_ask_again(make_service, clock):
    service = make_service(limit=4)
    group = await service.open_group("one", ADDER, 3)
    clock.now = 9.0
    with pytest.raises(errors.NoRoomError) as refused:
        await service.open_group("two", ADDER, 2)
    assert refused.value.retry_after_s == pytest.approx(1.0)
    service.close(group.leases[:1])
    await service.open_group("two", ADDER, 2)


async def test_room_kept_for_an_opening_that_failed_is_given_back(make_service):
    service = make_service(limit=4)
    for _ in range(3):
        with pytest.raises(errors.BadRequestError):
            await service.open_group("key", EpisodeSpec("adder", '{"a": 1}', "", 0), 4)
    await service.open_group("key", ADDER, 4)


async def test_a_lease_ends_by_time_and_its_session_is_freed(service, homes, clock):
    lease = await opened(service)
    clock.now = 9.9
    await service.step(lease, 1, "1")  # renews
    clock.now = 19.8
    assert service.reap() == 0
    clock.now = 20.0
    with pytest.raises(errors.UnknownLeaseError):
        await service.step(lease, 2, "1")
    assert service.reap() == 1
    assert homes.live == 0


async def test_renewing_keeps_a_lease_and_names_those_that_do_not_live(service, clock):
    lease = await opened(service)
    for now in (8.0, 16.0, 24.0):
        clock.now = now
        assert service.renew([lease, "nothing"]) == ["nothing"]
    clock.now = 34.0
    assert service.renew([lease]) == [lease]


async def test_a_lease_does_not_end_in_the_middle_of_a_step(service, homes, clock):
    lease = await opened(service)
    homes.gate.clear()
    call = asyncio.create_task(service.step(lease, 1, "3"))
    await asyncio.sleep(0)
    clock.now = 1000.0
    assert service.reap() == 0
    homes.gate.set()
    assert (await call).observation.text == "3"
    assert (await service.step(lease, 2, "1")).observation.text == "4"


async def test_closing_twice_is_closing_once(service, homes):
    group = await service.open_group("key", ADDER, 3)
    assert service.close([*group.leases, "nothing"]) == 3
    assert service.close(group.leases) == 0
    assert homes.live == 0


async def test_a_lease_closed_while_it_is_rebuilt_leaves_no_session(service, homes):
    lease = await opened(service)
    homes.lose()
    homes.gate.clear()
    call = asyncio.create_task(service.step(lease, 1, "3"))
    await asyncio.sleep(0)
    service.close([lease])
    homes.gate.set()
    assert isinstance(await call, Fault)
    assert homes.live == 0


async def test_draining_opens_nothing_more_and_waits_for_the_leases(service):
    lease = await opened(service)
    draining = asyncio.create_task(service.drain(5.0, look_every_s=0.0))
    await asyncio.sleep(0)
    with pytest.raises(errors.DrainingError):
        await opened(service, key="other")
    assert (await service.step(lease, 1, "10")).won
    assert not draining.done()
    service.close([lease])
    await draining


async def test_draining_ends_what_is_left_after_its_time(service, homes):
    await opened(service)
    await service.drain(0.0)
    assert homes.live == 0


async def test_an_environment_has_room_of_its_own(make_service):
    service = make_service(max_sessions={"adder": 3})
    first = await service.open_group("one", ADDER, 2)
    with pytest.raises(
        errors.NoRoomError, match="2 leases of 'adder' live and 2 were asked for; at most 3 may"
    ) as full:
        await service.open_group("two", ADDER, 2)
    assert full.value.retry_after_s == 5.0
    await service.open_group("three", ADDER, 1)
    service.close(first.leases[:1])
    await service.open_group("four", ADDER, 1)
    with pytest.raises(errors.BadRequestError, match="n: at most 3 sessions of 'adder'"):
        await service.open_group("five", ADDER, 4)
