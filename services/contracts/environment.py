"""A job's description of its environment: looked up once at submission, then the same for every service."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from services.contracts.job import JobSpec
from services.contracts.templates import FALLBACK, own_words, plain_words, suited_template

if TYPE_CHECKING:
    from gigpo_proto.env.v1 import env_pb2

CostClass = Literal["light", "moderate", "heavy"]
COST_CLASSES: tuple[CostClass | None, ...] = (None, "light", "moderate", "heavy")
"""Cost classes by their numbers in the environment service's contract."""
DEFAULT_MAX_TURNS = 20


class EnvironmentInfo(BaseModel):
    """One entry of `ListEnvironments`, for the job's kwargs."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # stored jobs may have a former field, `snapshot`

    id: str
    description: str = ""
    kwargs_schema: dict[str, JsonValue] = Field(default_factory=dict)
    """JSON schema of the accepted kwargs."""
    deterministic: bool = False
    gives_anchors: bool = True
    """Its states can be compared; gigpo needs that."""
    thread_safe: bool = False
    """Its sessions may run in threads of one process."""
    cost_class: CostClass | None = None
    """light: a step takes less than 1 ms; moderate: 1 to 100 ms; heavy: longer, or a session holds more than 100 MB;
    None: not known."""
    default_max_turns: int = DEFAULT_MAX_TURNS
    splits: list[str] = Field(default_factory=lambda: ["train", "test"])
    prompt_template: str = FALLBACK
    """The template that the environment names as its own; see `template`."""
    templates: dict[str, str] = Field(default_factory=dict)
    """File name -> text of the prompt templates that it brings; see services/contracts/templates."""
    tools: list[dict[str, JsonValue]] = Field(default_factory=list)
    """Its tools: objects with name, description and parameters (JSON Schema); an action is a call of one of them.
    Empty: its actions are no calls, or its kwargs decide on the tools."""
    vocabulary: list[str] = Field(default_factory=list)
    """Every word its texts and actions can hold; empty when unknown. A from-scratch tokenizer is made from it."""
    members: dict[str, EnvironmentInfo] = Field(default_factory=dict)
    """A mixture's members: name of a member -> its environment; the other fields hold what is true of all of them."""

    @classmethod
    def mixed(cls, members: Mapping[str, EnvironmentInfo]) -> EnvironmentInfo:
        """The environments of a job as one; a job without a mixture has a single one, under the empty name."""
        if [*members] == [""]:
            return members[""]
        infos = list(members.values())
        different = {info.id: info for info in infos}
        words = [set(info.vocabulary) for info in infos]
        return cls(
            id="+".join(different),
            description="A mixture of " + "; ".join(f"{one.id}: {one.description}" for one in different.values()),
            deterministic=all(info.deterministic for info in infos),
            gives_anchors=all(info.gives_anchors for info in infos),
            thread_safe=all(info.thread_safe for info in infos),
            default_max_turns=max(info.default_max_turns for info in infos),
            splits=[split for split in infos[0].splits if all(split in info.splits for info in infos)],
            vocabulary=sorted(set[str]().union(*words)) if all(words) else [],
            members=dict(members),
        )

    def part(self, member: str) -> EnvironmentInfo:
        """The environment of a member; without a mixture this one."""
        return self.members.get(member, self)

    @classmethod
    def listed(cls, entry: env_pb2.EnvironmentInfo) -> Self:
        """The environment as its service lists it."""
        able = entry.capabilities
        return cls(
            id=entry.id,
            description=entry.description,
            kwargs_schema=json.loads(entry.kwargs_schema_json or "{}"),
            deterministic=able.deterministic,
            gives_anchors=able.gives_anchors,
            thread_safe=able.thread_safe,
            cost_class=COST_CLASSES[able.cost_class],
            default_max_turns=entry.default_max_turns or DEFAULT_MAX_TURNS,
            splits=list(entry.splits),
            prompt_template=entry.prompt_template or FALLBACK,
            templates=dict(entry.templates),
            tools=json.loads(entry.tools_json or "[]"),
            vocabulary=list(entry.vocabulary),
        )

    def template(self, spec: JobSpec) -> str:
        """The prompt template of a job in this environment."""
        wanted = spec.environment.prompt_template
        return suited_template(self.prompt_template, self.templates) if wanted == "auto" else wanted

    def form(self, spec: JobSpec, *, has_chat_template: bool) -> str:
        """How a job's prompts and replies are put, one of `templates.FORMS`.

        Args:
            has_chat_template: the policy's tokenizer has one.
        """
        if spec.environment.prompt_form != "auto":
            return spec.environment.prompt_form
        if not (has_chat_template and spec.environment.use_chat_template):
            return "plain"
        return "tools" if self.tools else "think"

    def scratch_words(self, spec: JobSpec) -> list[str]:
        """Words that the tokenizer of a policy from scratch must know: the environment's, its tools' names and those
        that the prompt template adds."""
        if self.members:
            return [word for name, part in spec.parts.items() for word in self.part(name).scratch_words(part)]
        chats = spec.model.scratch is not None and spec.model.scratch.scratch_chat
        template = self.template(spec)
        if self.form(spec, has_chat_template=chats) != "tools":
            return [*self.vocabulary, *plain_words(template, self.templates)]
        names = [str(tool["name"]) for tool in self.tools]
        return [*self.vocabulary, *names, *own_words(template, "tools", self.templates)]

    def kwargs(
        self, spec: JobSpec, *, max_turns: int = 0, overrides: Mapping[str, object] | None = None
    ) -> dict[str, object]:
        """The kwargs that open a job's sessions: horizon and rewards, where this environment accepts them, then the
        spec's kwargs.

        Args:
            max_turns: takes the place of the job's horizon when > 0.
            overrides: win over the spec's kwargs.
        """
        known = self.kwargs_schema.get("properties")
        told: dict[str, object] = {"max_turns": max_turns or spec.environment.max_turns}
        if not spec.environment.use_gym_env:
            told["rewards"] = spec.rewards.within(spec.rollout.max_completion_length).model_dump(mode="json")
        told = {name: value for name, value in told.items() if isinstance(known, dict) and name in known}
        return {**told, **spec.environment.environment_kwargs, **(overrides or {})}
