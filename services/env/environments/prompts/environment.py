"""One prompt, one reply: the reply is the action, and reward functions score it.

Transcript (a generated sum; reward_funcs: accuracy):

    3 plus 4                                        7          reward 1, won
    3 plus 4                                        8          reward 0

The anchor is the prompt. Its states cannot be compared, so gigpo is refused.
"""

import random
from collections.abc import Mapping
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, PrivateAttr, ValidationInfo, model_validator

from gigpo.env.data import DataFolder
from gigpo.env.environment import Capabilities, Environment, EnvironmentKwargs, KwargsError, Observation, Outcome
from services.contracts.rewards import Rewards
from services.env.environments.prompts.answers import answer_in, is_right
from services.env.environments.prompts.completion import Completion
from services.env.environments.prompts.judge import longest_s, spent_tokens
from services.env.environments.prompts.mixture import Mixture
from services.env.environments.prompts.questions import Arithmetic, Splits, folder_splits, own_splits
from services.env.environments.prompts.reward_files import try_files
from services.env.environments.prompts.rewards import NEED_SOLUTION, reward_functions
from services.env.environments.prompts.rows import HeldOutShare, OwnRows

Named = dict[Literal["prompt", "messages", "solution", "choices", "system"], str]
"""Ours -> theirs."""


class DataSet(BaseModel):
    """One of several data sets."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: DataFolder = Field(description="As data of a single one.")
    name: str = Field("", description="What reward functions find as the row's data_set; empty: the folder's name.")
    weight: float = Field(1.0, gt=0, description="How often its prompts are asked, beside the weights of the others.")
    columns: Named = Field({}, description="As columns of a single one.")

    @property
    def called(self) -> str:
        """Its name."""
        return self.name or self.data.name


class PromptsKwargs(EnvironmentKwargs):
    """Settings of the prompts."""

    data: DataFolder | None = Field(
        None,
        description="Folder with train.jsonl and perhaps test.jsonl (or .json, .csv, .tsv, .parquet, .arrow, also "
        "with .gz, or a folder of Hugging Face datasets); a row holds prompt (or messages), solution, perhaps choices.",
    )
    sets: tuple[DataSet, ...] = Field(
        (), max_length=64, description="Several data sets; a prompt is drawn from one of them by their weights."
    )
    columns: Named = Field(
        {},
        description="Columns of the data by other names, such as {prompt: question, solution: extra.answer}; the names "
        "that TRL, verl and ms-swift use are known.",
    )
    rows: OwnRows = ()
    arithmetic: Arithmetic | None = Field(None, description="Generated sums; asked when no other questions are given.")
    split_dataset_ratio: HeldOutShare = 0.1
    rewards: Rewards = Field(
        Rewards(reward_funcs=["accuracy"]), description="Reward functions; a job's own `rewards` stand here."
    )
    max_turns: int = Field(1, ge=1, le=1, description="One reply ends the episode.")

    _files_root: str | None = PrivateAttr(None)
    """The folder of files that came with the job."""

    @model_validator(mode="after")
    def _knows_its_files(self, info: ValidationInfo) -> Self:
        self._files_root = (info.context or {}).get("files_root")
        return self

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        given = [name for name in ("data", "sets", "rows", "arithmetic") if getattr(self, name)]
        if len(given) > 1:
            raise ValueError(f"want one of data, sets, rows and arithmetic, got {' and '.join(given)}")
        if self.columns and self.data is None:
            raise ValueError("columns: want data with it, got none")
        if any({"prompt", "messages"} <= columns.keys() for columns in (self.columns, *[s.columns for s in self.sets])):
            raise ValueError("columns: want one of prompt and messages, got both")
        names = [one.called for one in self.sets]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"sets: want different names, got {twice[0]!r} twice")
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
        self._splits = mixture(kwargs)
        drawn = random.Random(f"prompts/{split}/{seed}")
        self._question = self._splits.draw(drawn, split)
        try_files(kwargs.rewards, self._functions, self._question)
        needing = sorted(NEED_SOLUTION.intersection(kwargs.rewards.reward_funcs))
        if needing and (unsolved := self._splits.unsolved):
            raise KwargsError(
                f"reward_funcs: {needing[0]} needs a solution in every row, {unsolved:,} rows have none or an "
                f"empty one; the first asks {self._splits.first_unsolved!r:.80}"
            )
        self._reply: str | None = None
        self._judged: tuple[float | None, int] | None = None
        return self._observation()

    @property
    def consults(self) -> bool:
        """A judge is asked over the network; everything else is computed here."""
        return "judge" in self.kwargs.rewards.reward_funcs

    def consult(self, action: str, response_tokens: int) -> None:
        judge = self._functions[self.kwargs.rewards.reward_funcs.index("judge")]
        before = spent_tokens()
        score = judge(self._completion(action, response_tokens))
        self._judged = (None if score is None else float(score), spent_tokens() - before)

    def step(self, action: str) -> Outcome:
        return self.answer(action, 0)

    def answer(self, action: str, response_tokens: int) -> Outcome:
        question, rewards = self._question, self.kwargs.rewards
        self._reply = action
        if self.consults and self._judged is None:
            self.consult(action, response_tokens)
        judged, cost = self._judged or (None, 0)
        self._judged = None
        completion = self._completion(action, response_tokens)
        found = (
            judged if name == "judge" else function(completion)
            for name, function in zip(rewards.reward_funcs, self._functions, strict=True)
        )
        values = tuple(None if value is None else float(value) for value in found)
        voted = [(weight, value) for weight, value in zip(rewards.weights, values, strict=True) if value is not None]
        return Outcome(
            observation=self._observation(),
            reward=sum(weight * value for weight, value in voted),
            rewards=values,
            won=question.solution is not None and is_right(action, question.solution),
            terminated=True,
            action_valid=not question.choices or answer_in(action) in question.choices,
            judge_tokens=cost,
        )

    def _completion(self, action: str, response_tokens: int) -> Completion:
        question = self._question
        return Completion(action, response_tokens, question.text, question.solution, question.row)

    def state(self) -> object:
        return (self._question.text, self._question.solution, self._reply)

    @property
    def longest_call_s(self) -> float:
        """The longest answer of a judge, where one is asked."""
        return longest_s(self.kwargs.rewards) if "judge" in self.kwargs.rewards.reward_funcs else 0.0

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


def mixture(kwargs: PromptsKwargs) -> Mixture:
    """The questions of all data sets."""
    if not kwargs.sets:
        return Mixture({"": splits(kwargs)}, (1.0,))
    ratio = kwargs.split_dataset_ratio
    found = {one.called: folder_splits(one.data, ratio, one.columns.items()) for one in kwargs.sets}
    return Mixture(found, tuple(one.weight for one in kwargs.sets))


def splits(kwargs: PromptsKwargs) -> Splits:
    """The questions of the only data set."""
    if kwargs.data is not None:
        return folder_splits(kwargs.data, kwargs.split_dataset_ratio, kwargs.columns.items())
    return own_splits(kwargs.rows, kwargs.arithmetic or Arithmetic(), kwargs.split_dataset_ratio)
