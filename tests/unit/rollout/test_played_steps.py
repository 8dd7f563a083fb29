"""Parts of a played step: seeds of its samples, keys of its state, and whether its action was valid."""

from __future__ import annotations

import msgspec
import pytest

from services.contracts.faults import FaultClass
from services.contracts.ids import episode_id, sampling_seed
from services.contracts.observation import KeyedOutcome
from services.ledger import DropReason, GroupState
from services.rollout.errors import EnvironmentFault, InferenceFault, NoAdmissibleActions, PromptTooLong
from services.rollout.player import Player
from services.rollout.ports import Ask
from tests.unit.rollout.fakes import FakeEnvironments, FakeInference, FakeLedger, digest
from tests.unit.rollout.stages import JOB, encoded_replies


class TakesAnything(FakeEnvironments):
    """An environment in which every action is valid, the empty one included."""

    async def step(self, lease: str, seq: int, action: str, response_tokens: int = 0) -> KeyedOutcome:
        return msgspec.structs.replace(await super().step(lease, seq, action, response_tokens), action_valid=True)


FAULTS = [
    (EnvironmentFault(FaultClass.ENV_BUG, "KeyError: 'door'"), DropReason.ENV_BUG, 2),
    (PromptTooLong("900 tokens"), DropReason.UNPLAYABLE, 2),
    (NoAdmissibleActions("none"), DropReason.UNPLAYABLE, 2),
    (EnvironmentFault(FaultClass.INFRA, "the service restarted"), DropReason.INFRA, 1),
    (InferenceFault("asked 4 times"), DropReason.INFRA, 1),
    (KeyError("ours"), DropReason.INFRA, 1),
]


@pytest.mark.parametrize(("fault", "reason", "draw"), FAULTS)
async def test_an_attempt_repeats_the_noise_unless_the_policy_may_have_caused_the_failure(stages, fault, reason, draw):
    stage, ledger = stages(), FakeLedger()
    inference = FakeInference(encoded_replies(stage.playbook, ["go left", "go right"]))
    inference.fault = lambda ask: fault if ask.item.item_id == f"{JOB}/{episode_id(group.group_id, 1)}:1:1" else None
    player, group = Player(stage.playbook, ledger, FakeEnvironments(), inference, "w1"), stage.group(n=3)
    ledger.open(group)
    await player.play(group)
    assert ledger.reasons[group.group_id] is reason
    await player.play(group)
    assert ledger.states[group.group_id] is GroupState.COMPLETE
    first, second = [[ask for ask in inference.asks if ask.item.item_id.endswith(f":{attempt}")] for attempt in (1, 2)]
    assert first
    assert second
    assert all(ask.item.seed == seed_in(ask, 1) for ask in first)
    assert all(ask.item.seed == seed_in(ask, draw) for ask in second)


def seed_in(ask: Ask, draw: int) -> int:
    """The seed of that draw for the episode and step that the item's id names."""
    episode, index, _ = ask.item.item_id.removeprefix(f"{JOB}/").split(":")
    return sampling_seed(episode, int(index), draw)


async def test_the_anchor_groups_steps_and_the_state_is_the_environments_own(stages):
    """One view of two states is one anchor, so an anchor's key never stands for a state's."""
    stage = stages()
    for episode in await stage.play(stage.group(n=4)):
        for step in episode.steps:
            assert step.anchor_key == digest(step.anchor)
            assert step.state_key == digest(step.anchor.removeprefix(f"{episode.task} . "))
            assert step.state_key != step.anchor_key
            assert step.action_key == digest(step.action)


@pytest.mark.parametrize(
    ("reply", "action", "valid"),
    [("<action> go left </action>", "go left", True), ("go left", "", False), ("<action> go left", "", False)],
)
async def test_an_action_is_valid_only_in_a_reply_of_the_wanted_form(stages, reply, action, valid):
    """Also where the environment would take whatever is left of an ill-formed reply."""
    stage, ledger = stages(prompt_form="think"), FakeLedger()
    inference = FakeInference(encoded_replies(stage.playbook, [reply, reply + " act"])[:1])
    group = stage.group(n=2)
    ledger.open(group)
    await Player(stage.playbook, ledger, TakesAnything(), inference, "w1").play(group)
    assert ledger.states[group.group_id] is GroupState.COMPLETE
    steps = [step for episode in ledger.stored[group.group_id].values() for step in episode.steps]
    assert {(step.action, step.action_valid) for step in steps} == {(action, valid)}


async def test_an_action_is_invalid_that_the_environment_does_not_take(stages):
    stage, ledger = stages(prompt_form="think"), FakeLedger()
    inference = FakeInference(encoded_replies(stage.playbook, ["<action> go </action>", "act"])[:1])
    group = stage.group(n=2)
    ledger.open(group)
    await Player(stage.playbook, ledger, FakeEnvironments(), inference, "w1").play(group)
    steps = [step for episode in ledger.stored[group.group_id].values() for step in episode.steps]
    assert {(step.action, step.action_valid) for step in steps} == {("go", False)}
