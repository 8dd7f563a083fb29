"""What a job knows of its environment: looked up once at submission, then the same for every service."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.contracts.job import JobSpec
from services.contracts.templates import FALLBACK, suited_template


class EnvironmentInfo(BaseModel):
    """One entry of `ListEnvironments`, for the job's kwargs."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    id: str
    description: str = ""
    kwargs_schema: dict[str, JsonValue] = Field(default_factory=dict)
    """JSON schema of the accepted kwargs."""
    deterministic: bool = False
    gives_anchors: bool = True
    """Its states can be compared; gigpo needs that."""
    default_max_turns: int = 20
    splits: list[str] = Field(default_factory=lambda: ["train", "test"])
    prompt_template: str = FALLBACK
    """What the environment names as its own; see `template`."""
    vocabulary: list[str] = Field(default_factory=list)
    """Every word its texts and actions can hold; empty when unknown. A from-scratch tokenizer is made from it."""

    def template(self, spec: JobSpec) -> str:
        """The prompt template of a job in this environment."""
        wanted = spec.environment.prompt_template
        return suited_template(self.prompt_template) if wanted == "auto" else wanted

    def kwargs(
        self, spec: JobSpec, *, max_turns: int = 0, overrides: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:
        """What a job's sessions are opened with: horizon and rewards, where this environment can be told, then the
        spec's kwargs.

        Args:
            max_turns: takes the place of the job's horizon when > 0.
            overrides: win over the spec's kwargs.
        """
        known: Any = self.kwargs_schema.get("properties", {})
        told: dict[str, Any] = {"max_turns": max_turns or spec.environment.max_turns}
        if not spec.environment.use_gym_env:
            told["rewards"] = spec.rewards.within(spec.rollout.max_completion_length).model_dump(mode="json")
        told = {name: value for name, value in told.items() if name in known}
        return {**told, **spec.environment.environment_kwargs, **(overrides or {})}
