"""What a job knows of its environment: looked up once at submission, then the same for every service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field, JsonValue


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
    prompt_template: str = "plain"
    vocabulary: list[str] = Field(default_factory=list)
    """Every word its texts and actions can hold; empty when unknown. A from-scratch tokenizer is made from it."""
