"""Reasoning-gym's procedural data sets as an environment: one question, one reply, scored by the data set itself.

Transcript (leg_counting, seed 0):

    how many legs are there in total if you have 13 woodlouses, 8 leechs, ...     <answer>292</answer>     reward 1, won

The anchor is the question: a group has one state. Licence of the package reasoning-gym: Apache-2.0.
"""

import json
from collections.abc import Mapping
from functools import lru_cache
from importlib import import_module
from typing import Any

from pydantic import Field, JsonValue

from gigpo.env.environment import (
    Capabilities,
    CostClass,
    Environment,
    EnvironmentKwargs,
    KwargsError,
    Observation,
    Outcome,
)
from services.env.environments.prompts.answers import answer_in
from services.env.environments.splits import reset_within


class ReasoningGymKwargs(EnvironmentKwargs):
    """Which data set, and how hard."""

    dataset: str = Field("leg_counting", description="One of reasoning-gym's, such as leg_counting or countdown.")
    config: dict[str, JsonValue] = Field({}, description='The data set\'s own numbers, such as {"max_animals": 4}.')
    won_score: float = Field(1.0, gt=0, le=1, description="A reply of at least this score is won.")
    max_turns: int = Field(1, ge=1, le=1, description="One reply ends the episode.")


class ReasoningGym(Environment):
    """Reasoning-gym's 106 procedural data sets: arithmetic, logic, puzzles, graphs. Every seed is a question."""

    Kwargs = ReasoningGymKwargs
    kwargs: ReasoningGymKwargs
    capabilities = Capabilities(gives_anchors=False, thread_safe=False, cost_class=CostClass.MODERATE)
    prompt_template = "prompts/v1"
    requires = ("reasoning_gym",)
    extra = "reasoning-gym"
    examples = ({}, {"dataset": "countdown"})
    example_actions = ("<answer>4</answer>", "no idea")

    def reset(self, seed: int, split: str) -> Observation:
        def draw(number: int) -> str:
            self._dataset, self._entry = _drawn(self.kwargs.dataset, json.dumps(self.kwargs.config), number)
            return str(self._entry["question"])

        reset_within(split, seed, draw)
        self._reply: str | None = None
        return self._observation()

    def step(self, action: str) -> Outcome:
        self._reply = action
        score = float(self._dataset.score_answer(answer=answer_in(action), entry=dict(self._entry)))
        won = score >= self.kwargs.won_score
        return Outcome(observation=self._observation(), reward=score, won=won, terminated=True, action_valid=True)

    def state(self) -> object:
        return self._entry["question"], self._reply

    def _observation(self) -> Observation:
        question = str(self._entry["question"])
        return Observation(text="", anchor=question, task=question)


@lru_cache(maxsize=256)
def _drawn(name: str, config: str, number: int) -> tuple[Any, Mapping[str, Any]]:
    """A data set of one question and that question. KwargsError: there is no such data set, or it cannot be so."""
    package: Any = import_module("reasoning_gym")
    known: Any = import_module("reasoning_gym.factory").DATASETS
    if name not in known:
        near = sorted(one for one in known if name[:3] in one) or sorted(known)[:10]
        raise KwargsError(f"dataset: want one of reasoning-gym's {len(known)}, such as {', '.join(near)}, got {name!r}")
    given = json.loads(config)
    if wrong := sorted({"seed", "size"} & set(given)):
        raise KwargsError(f"config: {wrong[0]} cannot be set, because the task's seed draws one question")
    try:
        dataset = package.create_dataset(name, seed=number, size=1, **given)
        return dataset, dataset[0]
    except Exception as error:  # assertions of its configuration, and whatever a generator makes of it
        raise KwargsError(f"dataset, config: {name} cannot be made: {error!r:.300}") from error
