"""A policy that may only say an admissible action: what it is offered, what is kept, and what fails the attempt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.contracts.arrays import pack_int32, unpack_int32
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import SpecError, parse_spec
from services.contracts.messages import Episode, OpenedGroup, decode, encode
from services.contracts.sampling import SampledTokens
from services.ledger import DropReason, GroupState
from services.rollout.playbook import Playbook, make_playbook
from services.rollout.player import Player
from services.rollout.ports import Ask, OpenedSessions, Opening
from tests.unit.rollout.fakes import CORRIDOR_WORDS, FakeEnvironments, FakeInference, FakeLedger, random_reply
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import JOB, spec_of

GROUP = OpenedGroup(job_id=JOB, group_id="g", purpose="train", cursor=0, task_seed=3, split="train", n=4, min_version=0)


class Choosing(FakeInference):
    """Says one of the replies that it may."""

    def __init__(self) -> None:
        super().__init__([])

    async def generate(self, ask: Ask) -> SampledTokens:
        self.asks.append(ask)
        return random_reply([unpack_int32(choice) for choice in ask.item.choices], ask.item.seed, 0)


class Silent(FakeEnvironments):
    """Names no actions."""

    async def open(self, opening: Opening) -> OpenedSessions:
        opened = await super().open(opening)
        observation = msgspec.structs.replace(opened.observation, admissible_actions=())
        return msgspec.structs.replace(opened, observation=observation)


TAGGED = ["<action>go", "left</action>", "right</action>"]


def playbook_of(
    folder: Path, *, longest: int = 4, words: Sequence[str] = (*CORRIDOR_WORDS, *TAGGED), **environment: Any
) -> Playbook:
    spec = spec_of(
        {"environment": "corridor", **environment},
        guided_decoding="admissible_actions",
        max_completion_length=longest,
    )
    info = EnvironmentInfo(id="corridor", kwargs_schema={"properties": {"max_turns": {}}})
    return make_playbook(JOB, spec, info, word_tokens(folder / "policy", words))


Played = tuple[list[Episode], FakeLedger]


@pytest.fixture
def play(tmp_path: Path) -> Callable[..., Any]:
    async def played(
        playbook: Playbook, inference: FakeInference, environments: FakeEnvironments | None = None, **changes: Any
    ) -> Played:
        ledger, group = FakeLedger(), msgspec.structs.replace(GROUP, **changes)
        ledger.open(group)
        await Player(playbook, ledger, environments or FakeEnvironments(), inference, "w").play(group)
        stored = [decode(encode(one), Episode) for one in ledger.stored["g"].values()]
        return stored, ledger

    return played


@pytest.mark.parametrize(
    ("form", "longest", "around"), [("plain", 3, "{}"), ("think", 3, "<action>{}</action>")], ids=["plain", "think"]
)
async def test_the_policy_chooses_among_the_replies_that_say_an_admissible_action(
    tmp_path: Path, play: Callable[..., Any], form: str, longest: int, around: str
) -> None:
    playbook, inference = playbook_of(tmp_path, longest=longest, prompt_form=form), Choosing()
    episodes, _ = await play(playbook, inference)
    steps = [(episode, step) for episode in episodes for step in episode.steps]
    assert len(steps) == len(inference.asks) > 8
    asked = {ask.item.item_id: ask.item.choices for ask in inference.asks}
    offered = set()
    for episode, step in steps:
        assert step.action_valid
        choices = tuple(episode.replies[place] for place in unpack_int32(step.choices))
        assert choices == asked[f"{JOB}/{episode.episode_id}:{step.step_index}:1"]
        assert step.response_ids in choices
        offered.add(tuple(playbook.tokens.reply_text(choice) for choice in choices))
    texts = [around.format(action) for action in ("go left", "go right")]
    assert {text for texts in offered for text in texts} == set(texts)
    assert all(len(episode.replies) <= 2 for episode in episodes)  # each once, however often it was offered


async def test_a_random_actors_reply_is_one_of_its_choices_too(tmp_path: Path, play: Callable[..., Any]) -> None:
    episodes, _ = await play(playbook_of(tmp_path), Choosing(), actor="random")
    for episode in episodes:
        for step in episode.steps:
            assert step.response_ids in [episode.replies[place] for place in unpack_int32(step.choices)]


async def test_an_environment_that_names_no_actions_cannot_be_played(tmp_path: Path, play: Callable[..., Any]) -> None:
    _, ledger = await play(playbook_of(tmp_path), Choosing(), Silent())
    assert ledger.causes["g"] == "guided_decoding: admissible_actions: the environment names no admissible actions"
    assert ledger.reasons["g"] is DropReason.UNPLAYABLE


async def test_a_reply_that_is_longer_than_a_response_cannot_be_given(tmp_path: Path, play: Callable[..., Any]) -> None:
    _, ledger = await play(playbook_of(tmp_path, longest=2), Choosing())
    assert ledger.causes["g"] == (
        "max_completion_length: guided_decoding: admissible_actions wants at least 3 tokens, for the action "
        "'go left', got 2"
    )
    assert ledger.reasons["g"] is DropReason.UNPLAYABLE


async def test_a_tokenizer_without_the_words_of_an_action_cannot_play(tmp_path: Path, play: Callable[..., Any]) -> None:
    _, ledger = await play(playbook_of(tmp_path, words=["go", "left"]), Choosing())
    assert ledger.causes["g"] == (
        "guided_decoding: admissible_actions: the tokenizer cannot say the action 'go right', it says 'go <unk>'"
    )
    assert ledger.reasons["g"] is DropReason.UNPLAYABLE


async def test_another_reply_than_those_is_no_answer(tmp_path: Path, play: Callable[..., Any]) -> None:
    playbook = playbook_of(tmp_path)
    episodes, ledger = await play(playbook, FakeInference([unpack_int32(playbook.tokens.encode_reply("go north"))]))
    assert (episodes, ledger.states["g"]) == ([], GroupState.OPEN)
    assert "replies that guided_decoding allows, got another one" in ledger.causes["g"]


async def test_without_guidance_nothing_is_offered_and_nothing_kept(stages: Callable[..., Any]) -> None:
    stage = stages()
    for episode in await stage.play(stage.group()):
        assert (episode.replies, {step.choices for step in episode.steps}) == ([], {b""})


SINGLE_TURN = {"environment": {"use_gym_env": False}, "rewards": {"reward_funcs": ["format"]}}
SPECULATING = {
    "inference": {"vllm_engine_kwargs": {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}},
}


@pytest.mark.parametrize(
    ("document", "sentence"),
    [
        (SINGLE_TURN, "guided_decoding: want use_gym_env: true with admissible_actions"),
        (SPECULATING, "guided_decoding: want no speculative_config in vllm_engine_kwargs"),
    ],
)
def test_what_cannot_be_guided_is_refused_with_the_spec(document: dict[str, Any], sentence: str) -> None:
    document = {"model": {"model": "folder"}, "algorithm": {"advantage_estimator": "grpo"}, **document}
    parse_spec(document)
    with pytest.raises(SpecError, match=sentence):
        parse_spec({**document, "rollout": {"guided_decoding": "admissible_actions"}})


def test_choices_are_named_in_an_order_of_their_own(tmp_path: Path) -> None:
    playbook = playbook_of(tmp_path)
    one, other = playbook.choices(("go left", "go right")), playbook.choices(("go right", "go left", "go right"))
    assert one == other
    assert pack_int32(playbook.tokens.stop_ids[:1]) == one[0][-4:]
