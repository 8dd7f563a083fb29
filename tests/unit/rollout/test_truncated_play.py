"""A policy that samples among its likeliest tokens: what the engines are asked, and what is kept of their answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from services.contracts.environment import EnvironmentInfo
from services.contracts.guidance import pack_allowed
from services.contracts.job import SpecError, parse_spec
from services.contracts.messages import GenerateItem, OpenedGroup
from services.contracts.sampling import SampledTokens, Sampling
from services.rollout.actors import PolicyActor
from services.rollout.errors import InferenceFault
from services.rollout.playbook import Playbook, make_playbook
from services.rollout.player import Player
from services.rollout.ports import Ask
from tests.unit.rollout.fakes import CORRIDOR_WORDS, FakeEnvironments, FakeInference, FakeLedger
from tests.unit.rollout.policy_folder import word_tokens
from tests.unit.rollout.stages import JOB, spec_of

LIMITS: dict[str, Any] = {"top_k": 20, "top_p": 0.9, "min_p": 0.1, "stop_words": ["</action>"]}
SPECULATING = {"vllm_engine_kwargs": {"speculative_config": {"method": "ngram", "num_speculative_tokens": 2}}}


def playbook_of(folder: Path) -> Playbook:
    info = EnvironmentInfo(id="corridor", kwargs_schema={"properties": {"max_turns": {}}})
    spec = spec_of({"environment": "corridor"}, **LIMITS)
    return make_playbook(JOB, spec, info, word_tokens(folder / "policy", CORRIDOR_WORDS))


def test_the_engines_are_asked_for_what_the_job_says(tmp_path: Path) -> None:
    sampling = playbook_of(tmp_path).sampling
    asked = msgspec.structs.asdict(sampling)
    assert {name: asked[name] for name in LIMITS} == {**LIMITS, "stop_words": ("</action>",)}
    assert sampling.truncated


async def test_an_answer_that_does_not_say_what_could_be_sampled_is_none() -> None:
    class Keeping(FakeInference):
        kept = b""

        async def generate(self, ask: Ask) -> SampledTokens:
            return msgspec.structs.replace(await super().generate(ask), kept=self.kept)

    inference = Keeping([[5, 1]])
    item = GenerateItem(b"\1\0\0\0", 0, item_id="i")
    free = Ask("j", "g", "g/0", item, 0, Sampling(1.0, 8, (1,)))
    ask = msgspec.structs.replace(free, sampling=Sampling(1.0, 8, (1,), top_k=4))
    with pytest.raises(InferenceFault, match="want the tokens among which top_k 4 sampled, got none"):
        await PolicyActor(inference).respond(ask, ())
    assert not (await PolicyActor(inference).respond(free, ())).kept
    inference.kept = pack_allowed([[5, 6], [1, 2, 3]])
    assert (await PolicyActor(inference).respond(ask, ())).kept == inference.kept


async def test_a_step_keeps_what_each_token_could_have_been(tmp_path: Path) -> None:
    ledger, inference = FakeLedger(), FakeInference([[5, 1]])
    group = OpenedGroup(
        job_id=JOB, group_id="g", purpose="train", cursor=0, task_seed=3, split="train", n=2, min_version=0
    )
    ledger.open(group)
    await Player(playbook_of(tmp_path), ledger, FakeEnvironments(), inference, "w").play(group)
    kept = {step.kept for episode in ledger.stored["g"].values() for step in episode.steps}
    assert kept == {pack_allowed([[5], [1]])}


@pytest.mark.parametrize(
    ("rollout", "inference", "sentence"),
    [
        ({"top_p": 0.9}, {}, "top_p: want top_k with it .2 to 256., because a rollout records"),
        ({"min_p": 0.1}, {}, "min_p: want top_k with it"),
        ({"top_k": 1}, {}, "top_k: want 0 or at least 2"),
        ({"top_k": 257}, {}, "256"),
        ({"top_k": -1}, {}, "0"),
        (
            {"top_k": 100, "max_completion_length": 32_768},
            {},
            "top_k: want at most 11 where an episode may have 655,360 response tokens",
        ),
        ({"top_k": 5, "top_p": 0.0}, {}, "top_p"),
        ({"top_k": 5, "min_p": 1.0}, {}, "min_p"),
        ({"stop_words": [""]}, {}, "stop_words"),
        ({"top_k": 5, "guided_decoding": "admissible_actions"}, {}, "top_k: want 0 with guided_decoding"),
        ({"top_k": 5}, SPECULATING, "top_k: want no speculative_config in vllm_engine_kwargs"),
    ],
)
def test_what_cannot_be_sampled_and_trained_alike_is_refused_with_the_spec(
    rollout: dict[str, Any], inference: dict[str, Any], sentence: str
) -> None:
    document = {"model": {"model": "folder"}, "inference": inference}
    parse_spec({**document, "rollout": {"stop_words": ["</action>"]}})
    with pytest.raises(SpecError, match=sentence):
        parse_spec({**document, "rollout": rollout})
