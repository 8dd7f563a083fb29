"""The questions as an environment.

Transcript (seed 0, train: Which currency is used in the country in which the city Riaskaprix lies? Texts cut short):

    You have not searched yet.                                                      <search>Riaskaprix</search>
    <information>Doc 1(Title: "Riaskaprix") Riaskaprix is a city in Brablauskia on the river Stowiagloat, ...
    Doc 2(Title: "Jatriadiod Shecriruth") ... </information>                        <search>Brablauskia</search>
    <information>Doc 1(Title: "Brablauskia") Brablauskia is a country in Auralia. ... pay with the reikraebleil.
    ... </information>                                                              <answer>reikraebleil</answer>
"""

import random
import re
from functools import lru_cache
from typing import Annotated, Literal

from pydantic import Field

from gigpo.env.data import DataFolder
from gigpo.env.environment import Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.env.environments.choices import Choices
from services.env.environments.ranking import REQUIRES as RANKING_REQUIRES
from services.env.environments.search_qa.answers import exact_match, f1
from services.env.environments.search_qa.files import read_library
from services.env.environments.search_qa.library import Library
from services.env.environments.search_qa.world import draw_world, split_questions, written_passages

TAGGED = re.compile(r"<(search|answer)>(.*?)</\1>", re.DOTALL)
NOTHING_YET = "You have not searched yet."
INVALID = (
    "My previous action is invalid. If I want to search, I should put the query between <search> and </search>. "
    "If I want to give the final answer, I should put the answer between <answer> and </answer>. Let me try again."
)
LIBRARIES_KEPT = 2
"""Libraries that a worker holds ready; one of 20,000 passages takes about 75 MB."""


class SearchQaKwargs(EnvironmentKwargs):
    """Settings of the environment."""

    passages: int = Field(2000, ge=200, le=200_000, description="Passages to make up.")
    corpus_seed: int = Field(0, ge=0, description="Another number makes another world up.")
    hops: Choices[Annotated[int, Field(ge=1, le=3)]] = Field(
        (1, 2), description="Passages that lead to the answer, 1 to 3; questions of these lengths are asked."
    )
    data: DataFolder | None = Field(
        None,
        description="Folder below the service's data root with corpus.jsonl, train.jsonl and test.jsonl; none: all is "
        "made up.",
    )
    top_k: int = Field(3, ge=1, le=50, description="Passages that one search shows.")
    reward: Literal["exact_match", "f1"] = Field("exact_match", description="What an answer is worth, 0 to 1.")
    max_turns: int = Field(4, ge=1, le=100_000, description="The episode is truncated after this many steps.")


@lru_cache(maxsize=LIBRARIES_KEPT)
def made_up_library(passages: int, corpus_seed: int) -> Library:
    """A library about a made-up world, built once in a process."""
    rng = random.Random(f"search_qa/{corpus_seed}")
    world = draw_world(rng, passages)
    return Library(written_passages(world), split_questions(world, rng))


library_from_files = lru_cache(maxsize=LIBRARIES_KEPT)(read_library)


class SearchQa(Environment):
    """Search-R1's question answering: search a corpus, then answer. The world is made up, or the corpus is your own."""

    Kwargs = SearchQaKwargs
    kwargs: SearchQaKwargs
    prompt_template = "search_qa/v1"
    examples = ({}, {"hops": [1, 2, 3], "reward": "f1"})
    example_actions = ("<search>capital</search>", "<search>river</search>", "<answer>nobody knows</answer>")
    requires = RANKING_REQUIRES

    def reset(self, seed: int, split: str) -> Observation:
        self._library = self._opened()
        asked = self._library.asked(split, self.kwargs.hops)
        if not asked:
            raise KwargsError(f"hops: no question of split {split} has {self.kwargs.hops}")
        self._question = asked[seed % len(asked)]
        self._shown: list[int] | None = None
        self._seen: set[int] = set()
        return self._observation(self._information())

    def step(self, action: str) -> Outcome:
        found = TAGGED.search(action)
        if found is None:
            return Outcome(observation=self._observation(INVALID), action_valid=False)
        said = found[2].strip()
        if found[1] == "search":
            self._shown = self._library.search(said, self.kwargs.top_k)
            self._seen.update(self._shown)
            return Outcome(observation=self._observation(self._information()), action_valid=True)
        right = exact_match(said, self._question.answers)
        worth = float(right) if self.kwargs.reward == "exact_match" else f1(said, self._question.answers)
        return Outcome(
            observation=self._observation(self._information()),
            reward=worth,
            won=right,
            terminated=True,
            action_valid=True,
        )

    def state(self) -> object:
        return (self._question.text, self._shown, sorted(self._seen))

    def _opened(self) -> Library:
        kwargs = self.kwargs
        if kwargs.data is None:
            return made_up_library(kwargs.passages, kwargs.corpus_seed)
        return library_from_files(kwargs.data)

    def _information(self) -> str:
        """Results of the last search, as Search-R1 writes them."""
        if self._shown is None:
            return NOTHING_YET
        passages = (self._library.passages[number] for number in self._shown)
        lines = "\n".join(f"Doc {place}(Title: {p.title}) {p.text}" for place, p in enumerate(passages, start=1))
        return f"<information>{lines}</information>"

    def _observation(self, text: str) -> Observation:
        return Observation(text=text, anchor=self._information(), task=self._question.text)
