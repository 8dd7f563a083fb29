"""One prompt, one reply: the reply is the action, and reward functions score it.

Transcript (a generated sum; reward_funcs: accuracy):

    3 plus 4                                        7          reward 1, won
    3 plus 4                                        8          reward 0

The anchor is the prompt. Its states cannot be compared, so gigpo is refused.
"""

import random
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import Field, JsonValue, PrivateAttr, ValidationInfo, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import Capabilities, Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.contracts.rewards import Rewards
from services.env.environments.prompts.answers import answer_in, is_right
from services.env.environments.prompts.completion import Completion
from services.env.environments.prompts.judge import spent_tokens
from services.env.environments.prompts.questions import Arithmetic, Splits, folder_splits, own_splits
from services.env.environments.prompts.reward_files import try_files
from services.env.environments.prompts.rewards import NEED_SOLUTION, reward_functions
from services.env.environments.prompts.rows import Row

MAX_ROWS = 1_000
"""Rows that a job may carry itself."""


class PromptsKwargs(EnvironmentKwargs):
    """What the prompts can be told."""

    data: DataFolder | None = Field(
        None,
        description="Folder with train.jsonl and perhaps test.jsonl (or .json, .csv, .tsv, .parquet, .arrow, also "
        "with .gz, or a folder of Hugging Face datasets); a row holds prompt (or messages), solution, perhaps choices.",
    )
    columns: dict[Literal["prompt", "messages", "solution", "choices", "system"], str] = Field(
        {},
        description="Columns of the data by other names, such as {prompt: question, solution: extra.answer}; the names "
        "that TRL, verl and ms-swift use are known.",
    )
    rows: tuple[Row, ...] = Field(
        (),
        max_length=MAX_ROWS,
        description="The lines themselves, instead of a folder.",
        json_schema_extra={"format": "text"},
    )
    arithmetic: Arithmetic | None = Field(None, description="Generated sums; what is asked when nothing else is given.")
    split_dataset_ratio: float = Field(
        0.1, ge=0, lt=1, description="Share of the prompts that is held out for test; 0: test asks the same ones."
    )
    rewards: Rewards = Field(
        Rewards(reward_funcs=["accuracy"]), description="Reward functions; a job's own `rewards` stand here."
    )
    max_turns: int = Field(1, ge=1, le=1, description="One reply ends the episode.")

    _files_root: str | None = PrivateAttr(None)
    """Where files that came with the job lie."""

    @model_validator(mode="after")
    def _knows_its_files(self, info: ValidationInfo) -> Self:
        self._files_root = (info.context or {}).get("files_root")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("data", "rows", "arithmetic") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"want one of data, rows and arithmetic, got {' and '.join(given)}")
        if self.columns and self.data is None:
            raise ValueError("columns: want data with it, got none")
        if {"prompt", "messages"} <= self.columns.keys():
            raise ValueError("columns: want one of prompt and messages, got both")
        return self


class Prompts(Environment):
    """Single-turn prompts, scored by reward functions: a data set of yours, or generated sums."""

    Kwargs = PromptsKwargs
    kwargs: PromptsKwargs
    capabilities = Capabilities(gives_anchors=False)
    prompt_template = "prompts/v1"

    def reset(self, seed: int, split: str) -> Observation:
        kwargs = self.kwargs
        self._functions = reward_functions(kwargs.rewards, kwargs._files_root, self._judges())
        self._splits = splits(kwargs)
        self._question = random.Random(f"prompts/{split}/{seed}").choice(
            self._splits.test if split == "test" else self._splits.train
        )
        try_files(kwargs.rewards, self._functions, self._question)
        needing, unsolved = sorted(NEED_SOLUTION.intersection(kwargs.rewards.reward_funcs)), self._splits.unsolved
        if needing and unsolved:
            raise KwargsError(
                f"reward_funcs: {needing[0]} needs a solution in every row, {unsolved:,} rows have none or an "
                f"empty one; the first asks {self._splits.first_unsolved!r:.80}"
            )
        self._reply: str | None = None
        return self._observation()

    def step(self, action: str) -> Outcome:
        return self.answer(action, 0)

    def answer(self, action: str, response_tokens: int) -> Outcome:
        question, rewards = self._question, self.kwargs.rewards
        self._reply = action
        completion = Completion(action, response_tokens, question.text, question.solution, question.row)
        before = spent_tokens()
        found = (function(completion) for function in self._functions)
        values = tuple(None if value is None else float(value) for value in found)
        voted = [(weight, value) for weight, value in zip(rewards.weights, values, strict=True) if value is not None]
        return Outcome(
            observation=self._observation(),
            reward=sum(weight * value for weight, value in voted),
            rewards=values,
            won=question.solution is not None and is_right(action, question.solution),
            terminated=True,
            action_valid=not question.choices or answer_in(action) in question.choices,
            judge_tokens=spent_tokens() - before,
        )

    def state(self) -> object:
        return (self._question.text, self._question.solution, self._reply)

    def _judges(self) -> Mapping[str, JsonValue]:
        judges = self.options.get("judges", {})
        return judges if isinstance(judges, dict) else {}

    def warnings(self) -> tuple[str, ...]:
        return self._splits.warnings

    @classmethod
    def vocabulary(cls) -> list[str]:
        return Arithmetic.vocabulary()

    def _observation(self) -> Observation:
        question = self._question
        choices = question.choices if self._reply is None else ()
        return Observation(text="", anchor=question.text, task=question.text, admissible_actions=choices)


def splits(kwargs: PromptsKwargs) -> Splits:
    """What is asked."""
    if kwargs.data is not None:
        return folder_splits(kwargs.data, kwargs.split_dataset_ratio, kwargs.columns.items())
    return own_splits(kwargs.rows, kwargs.arithmetic or Arithmetic(), kwargs.split_dataset_ratio)
