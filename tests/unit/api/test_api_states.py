"""The one transition table of job states and what commands mean."""

from __future__ import annotations

import itertools

import pytest

from services.contracts.states import IDLE, MOVES, TERMINAL, Command, CommandRefused, JobState, command_after, follows


def test_nothing_follows_an_ended_job() -> None:
    assert not any(follows(ended, state) for ended, state in itertools.product(TERMINAL, JobState))


def test_every_state_that_has_not_ended_can_end_every_way() -> None:
    for state in set(JobState) - TERMINAL:
        assert MOVES[state] >= TERMINAL


def test_no_state_follows_itself_and_pending_never_comes_back() -> None:
    assert not any(follows(state, state) for state in JobState)
    assert not any(follows(state, JobState.PENDING) for state in JobState)


def test_a_running_job_is_not_queued_again_before_it_paused() -> None:
    assert not follows(JobState.RUNNING, JobState.QUEUED)
    assert follows(JobState.RUNNING, JobState.QUEUED, given_back=True), "its trainer found no replica for it"
    assert not follows(JobState.SUCCEEDED, JobState.QUEUED, given_back=True)
    assert follows(JobState.RUNNING, JobState.PAUSED)
    assert follows(JobState.PAUSED, JobState.QUEUED)


@pytest.mark.parametrize("state", sorted(set(JobState) - TERMINAL))
def test_commands_on_a_live_job_are_noted_and_may_be_repeated(state: JobState) -> None:
    for command in Command:
        assert command_after(command, state, Command.RUN) == command
        assert command_after(command, state, command) == command


def test_a_pause_is_taken_back_by_resuming_and_a_cancel_is_not() -> None:
    assert command_after(Command.RUN, JobState.RUNNING, Command.PAUSE) == Command.RUN
    with pytest.raises(CommandRefused, match="being cancelled"):
        command_after(Command.RUN, JobState.RUNNING, Command.CANCEL)


def test_an_ended_job_takes_no_command_but_a_repeated_cancel() -> None:
    for state, command in itertools.product(TERMINAL, Command):
        if (state, command) == (JobState.CANCELLED, Command.CANCEL):
            assert command_after(command, state, Command.CANCEL) == Command.CANCEL
        else:
            with pytest.raises(CommandRefused, match=state.value):
                command_after(command, state, Command.RUN)


def test_a_job_that_nobody_works_on_has_not_ended() -> None:
    assert not IDLE & TERMINAL
    assert JobState.RUNNING not in IDLE
