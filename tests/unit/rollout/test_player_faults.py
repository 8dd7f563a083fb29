"""A failure on the way fails the attempt with its cause, and never becomes a reward."""

import asyncio
from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.sampling import SampledTokens
from services.ledger import GroupState, MoveRefused
from services.rollout.errors import EnvironmentFault, InferenceFault, ModelFault
from services.rollout.player import Player
from tests.unit.rollout.fakes import FakeEnvironments, FakeInference, FakeLedger
from tests.unit.rollout.stages import JOB, Stage, encoded_replies, fake_stage


class Faulty:
    """A stage whose fakes can be told to fail."""

    def __init__(self, stage: Stage) -> None:
        self.stage, self.group = stage, stage.group(n=3)
        self.ledger, self.environments = FakeLedger(), FakeEnvironments()
        self.inference = FakeInference(encoded_replies(stage.playbook, ["go left", "go right", "go"]))
        self.player = Player(stage.playbook, self.ledger, self.environments, self.inference, "w1")
        self.ledger.open(self.group)

    @property
    def state(self) -> GroupState:
        return self.ledger.states[self.group.group_id]

    @property
    def cause(self) -> str:
        return self.ledger.causes[self.group.group_id]

    @property
    def episodes(self):
        return list(self.ledger.stored[self.group.group_id].values())


@pytest.fixture
def faulty(stages) -> Faulty:
    return Faulty(stages())


@pytest.mark.parametrize("fault", ["infra", "env_bug"])
async def test_an_environment_fault_fails_the_attempt_and_the_next_attempt_completes(faulty, fault):
    error = EnvironmentFault(fault, "the worker died")
    faulty.environments.fault = lambda k, seq, attempt: error if (k, seq, attempt) == (1, 2, 1) else None
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.OPEN
    assert faulty.cause == f"environment {fault}: the worker died"
    assert faulty.episodes == []
    assert faulty.environments.live == {}
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.COMPLETE
    assert {episode.attempt for episode in faulty.episodes} == {2}
    keys = [opening.key for opening in faulty.environments.openings]
    assert len(set(keys)) == 2  # a new attempt opens new sessions


async def test_an_inference_fault_on_every_attempt_drops_the_group_with_its_cause(faulty):
    faulty.inference.fault = lambda ask: InferenceFault("asked 4 times")
    for expected in (GroupState.OPEN, GroupState.OPEN, GroupState.DROPPED):
        await faulty.player.play(faulty.group)
        assert faulty.state is expected
    assert faulty.cause == "asked 4 times"


@pytest.mark.parametrize(
    "lost",
    [
        EnvironmentFault("infra", "gone", lost=True),
        InferenceFault("gone", lost=True),
        RedisConnectionError("Error 111 connecting"),
        RedisTimeoutError("no answer"),
    ],
)
async def test_what_the_machinery_loses_is_played_again_however_few_attempts_there_are(faulty, lost):
    faulty.ledger.max_attempts = 1
    faulty.inference.fault = lambda ask: lost
    for _ in range(5):
        await faulty.player.play(faulty.group)
        assert faulty.state is GroupState.OPEN
    faulty.inference.fault = lambda ask: None
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.COMPLETE


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_of_failures_side_by_side_one_of_the_groups_own_counts(faulty, order):
    gone = EnvironmentFault("infra", "gone", lost=True)
    failures = [gone, EnvironmentFault("infra", "the worker died"), InferenceFault("gone", lost=True)]
    faulty.ledger.max_attempts = 1
    faulty.environments.fault = lambda k, seq, attempt: failures[order[k]]
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.DROPPED


async def test_a_model_fault_ends_the_episode_without_a_reward_and_counts(faulty):
    faulty.environments.fault = lambda k, seq, attempt: ModelFault("gibberish") if k == 1 else None
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.COMPLETE
    episode = faulty.ledger.stored[faulty.group.group_id][1]
    (step,) = episode.steps
    assert (step.reward, step.action_valid) == (0.0, False)
    assert (episode.won, episode.terminated, episode.truncated) == (False, True, False)


async def test_a_defect_fails_the_attempt_and_is_named(faulty):
    faulty.environments.fault = lambda k, seq, attempt: KeyError("bug") if k == 2 else None
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.OPEN
    assert faulty.cause == "KeyError('bug')"


async def test_a_replaced_attempt_is_abandoned_quietly(faulty):
    def replaced(k: int, seq: int, attempt: int) -> None:
        faulty.ledger.attempts[faulty.group.group_id] = 2

    faulty.environments.fault = replaced
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.GENERATING
    assert faulty.ledger.causes == {}
    assert faulty.environments.live == {}


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_of_failures_side_by_side_the_refused_move_decides(faulty, order):
    """The attempt belongs to somebody else: nothing else that went wrong in it is told."""
    failures = [EnvironmentFault("infra", "the worker died"), KeyError("bug"), MoveRefused("attempt 2 is under way")]
    faulty.environments.fault = lambda k, seq, attempt: failures[order[k]]
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.GENERATING
    assert faulty.ledger.causes == {}


@pytest.mark.parametrize("order", list(permutations(range(3))))
async def test_of_failures_side_by_side_a_defect_is_told_rather_than_a_known_failure(faulty, order):
    failures = [EnvironmentFault("infra", "the worker died"), KeyError("bug"), InferenceFault("asked 4 times")]
    faulty.environments.fault = lambda k, seq, attempt: failures[order[k]]
    await faulty.player.play(faulty.group)
    assert faulty.state is GroupState.OPEN
    assert faulty.cause == "KeyError('bug')"


async def test_a_cancelled_play_leaves_no_lease_and_no_mark_on_the_group(faulty):
    playing = asyncio.create_task(faulty.player.play(faulty.group))
    while not faulty.environments.live:
        await asyncio.sleep(0)
    playing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await playing
    assert faulty.environments.live == {}
    assert faulty.state is GroupState.GENERATING
    assert faulty.ledger.causes == {}


async def test_a_shuffled_task_without_a_seed_is_refused(faulty):
    group = faulty.stage.group(9, task_view="shuffled")
    faulty.ledger.open(group)
    await faulty.player.play(group)
    assert "sentence_seed" in faulty.ledger.causes[group.group_id]


INTEGERS = st.integers(-(2**31), 2**31 - 1)
FLOATS = st.floats(width=32, allow_nan=False)
REPLY = st.lists(st.tuples(st.integers(0, 21), FLOATS, INTEGERS), min_size=1)


def sampled(reply: list[tuple[int, float, int]]) -> SampledTokens:
    tokens, logprobs, versions = zip(*reply, strict=True)
    return SampledTokens(pack_int32(tokens), pack_float32(logprobs), pack_int32(versions), "stop")


@given(st.lists(REPLY, min_size=1))
@settings(max_examples=40, deadline=None)
async def test_whatever_a_replica_samples_is_stored_byte_for_byte(tmp_path_factory, replies):
    stage = fake_stage(tmp_path_factory.mktemp("policy"), JOB)
    faulty = Faulty(stage)
    answers = [sampled(reply) for reply in replies]
    asked = {}

    class Echo:
        async def generate(self, ask):
            asked[ask.item.item_id] = answers[ask.item.seed % len(answers)]
            return asked[ask.item.item_id]

    player = Player(stage.playbook, faulty.ledger, faulty.environments, Echo(), "w1")
    await player.play(faulty.group)
    assert faulty.state is GroupState.COMPLETE
    stored = {
        f"{JOB}/{e.episode_id}:{s.step_index}:1": SampledTokens(s.response_ids, s.logprobs, s.versions, s.finish_reason)
        for e in faulty.episodes
        for s in e.steps
    }
    assert stored == asked
