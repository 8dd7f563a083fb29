"""Reward functions of single-turn jobs: their names, weights and parameters.

Names, formulas and defaults are ms-swift's; docs/prompts.md has them with their sources.
"""

from __future__ import annotations

import re
from typing import ClassVar

from pydantic import Field, field_validator, model_validator

from services.contracts.effectless_options import Effect
from services.contracts.section import Section

BUILT_IN_REWARDS = ("accuracy", "cosine", "format", "judge", "repetition", "soft_overlong")
"""Reward functions that are always there; more are installed as plugins."""

_LENGTHS = {"cosine": "cosine_max_len", "soft_overlong": "soft_max_length"}
"""Reward function -> its option whose default is the longest response, tokens."""
_SETTINGS = {
    "cosine": (
        "cosine_min_len_value_wrong",
        "cosine_max_len_value_wrong",
        "cosine_min_len_value_correct",
        "cosine_max_len_value_correct",
        "cosine_max_len",
    ),
    "judge": ("judge_url", "judge_model", "judge_prompt", "judge_timeout_s"),
    "repetition": ("repetition_n_grams", "repetition_max_penalty"),
    "soft_overlong": ("soft_max_length", "soft_cache_length"),
}
"""Reward function -> the settings that only it reads."""


def _read_by(function: str, setting: str) -> Effect:
    return Effect(setting, ("reward_funcs",), lambda chosen: function in chosen, f"{function} among reward_funcs")


class Rewards(Section):
    """How a reply to a single-turn prompt is scored: the weighted sum of the functions' values."""

    effects: ClassVar[tuple[Effect, ...]] = tuple(
        _read_by(function, setting) for function, settings in _SETTINGS.items() for setting in settings
    )

    reward_funcs: list[str] = Field(default_factory=list)
    """Reward functions, at least one with use_gym_env: false: accuracy, format, cosine, judge, repetition,
    soft_overlong, the name of an installed plugin, or a function of a file of yours as my_reward.py:score."""
    reward_weights: list[float] | None = None
    """One weight per function, in their order; all 1 where none are given."""
    cosine_min_len_value_wrong: float = -0.5
    """cosine: reward of a wrong answer of no length."""
    cosine_max_len_value_wrong: float = 0.0
    """cosine: reward of a wrong answer of cosine_max_len tokens."""
    cosine_min_len_value_correct: float = 1.0
    """cosine: reward of a right answer of no length."""
    cosine_max_len_value_correct: float = 0.5
    """cosine: reward of a right answer of cosine_max_len tokens."""
    cosine_max_len: int | None = Field(None, ge=1)
    """cosine: length from which the reward no longer changes, tokens; max_completion_length where it is not given."""
    judge_url: str | None = Field(None, pattern=r"^https?://[^\s]+$")
    """judge: address of an OpenAI-compatible API, such as http://127.0.0.1:8000/v1, that the operator allows."""
    judge_model: str | None = Field(None, min_length=1)
    """judge: name of the model there."""
    judge_prompt: str = "Grade the reply to the task: 0 for a useless one, 1 for a perfect one."
    """judge: what the model is told to look at. It answers with a number from 0 to 1."""
    judge_timeout_s: float = Field(60.0, gt=0, le=600)
    """judge: longest wait for one answer, seconds."""
    repetition_n_grams: int = Field(3, ge=1)
    """repetition: words that are compared together."""
    repetition_max_penalty: float = Field(-1.0, le=0)
    """repetition: reward of a reply that says nothing new."""
    soft_max_length: int | None = Field(None, ge=1)
    """soft_overlong: length with the whole penalty of -1, tokens; max_completion_length where it is not given."""
    soft_cache_length: int | None = Field(None, ge=1)
    """soft_overlong: the penalty begins so many tokens before soft_max_length."""

    @field_validator("reward_funcs", mode="before")
    @classmethod
    def _names_in_a_row(cls, value: object) -> object:
        """`--reward_funcs accuracy,format` and `--reward_funcs "accuracy format"` are lists too."""
        return re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value

    @field_validator("reward_weights", mode="before")
    @classmethod
    def _weights_in_a_row(cls, value: object) -> object:
        return re.split(r"[,\s]+", value.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _fit_together(self) -> Rewards:
        if len(set(self.reward_funcs)) < len(self.reward_funcs) or "" in self.reward_funcs:
            raise ValueError(f"reward_funcs: want names, each once, got {self.reward_funcs}")
        if self.reward_weights is not None and len(self.reward_weights) != len(self.reward_funcs):
            wanted = len(self.reward_funcs)
            raise ValueError(f"reward_weights: want {wanted}, one per function, got {len(self.reward_weights)}")
        if "judge" in self.reward_funcs:
            for name in ("judge_url", "judge_model"):
                if getattr(self, name) is None:
                    raise ValueError(f"{name}: judge needs it, got none")
        if "soft_overlong" in self.reward_funcs and self.soft_cache_length is None:
            raise ValueError(
                "soft_cache_length: soft_overlong needs a number of tokens before soft_max_length, got none"
            )
        longest, margin = self.soft_max_length, self.soft_cache_length
        if longest and margin and margin > longest:
            raise ValueError(f"soft_cache_length: want at most soft_max_length = {longest}, got {margin}")
        return self

    @property
    def weights(self) -> tuple[float, ...]:
        """One per function."""
        return tuple(self.reward_weights or (1.0,) * len(self.reward_funcs))

    def within(self, max_completion_length: int) -> Rewards:
        """The same with the lengths that were not given set to the longest response, tokens."""
        lengths = {name: getattr(self, name) for function, name in _LENGTHS.items() if function in self.reward_funcs}
        return self.model_copy(update={name: value or max_completion_length for name, value in lengths.items()})
