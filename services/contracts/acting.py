"""The section `environment` of a job spec: what the agent acts in, and what it is shown of it."""

from __future__ import annotations

from contextlib import suppress
from datetime import date
from typing import Annotated, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field, JsonValue, field_validator, model_validator

from services.contracts.agents import OUTSIDE
from services.contracts.effectless_options import Effect, effective_with
from services.contracts.mixture import MOST_MEMBERS, MOST_ROWS, Member, Rows
from services.contracts.plain_errors import shown
from services.contracts.section import Section
from services.contracts.templates import template_names, template_of, unknown_template

_OF_THE_CONVERSATION = ("messages", "tools", "documents", "add_generation_prompt", "continue_final_message")
SINGLE_TURN = "prompts"
"""The environment of jobs with use_gym_env: false."""


def _day(value: object) -> object:
    with suppress(ValueError):
        if isinstance(value, str):
            return date.fromisoformat(value)
    if type(value) is date:
        return value
    raise ValueError(f"want a day such as 2026-01-31, got {shown(value)}")


Day = Annotated[date, BeforeValidator(_day)]


class Environment(Section):
    """The environment that the agent acts in."""

    effects: ClassVar[tuple[Effect, ...]] = (
        Effect("system_role", ("system",), lambda system: system is not None, "a system message"),
        Effect("system_role", ("use_chat_template",), bool, "use_chat_template: true"),
        Effect("chat_template_kwargs", ("use_chat_template",), bool, "use_chat_template: true"),
        effective_with("max_context_tokens", "interaction", ["conversation", OUTSIDE]),
        effective_with("session_timeout_s", "interaction", [OUTSIDE]),
        effective_with("context_overflow", "interaction", ["conversation"]),
        Effect(
            "interaction", ("max_turns",), lambda turns: turns > 1, "max_turns > 1 (one turn has nothing before it)"
        ),
        Effect("history_length", ("max_turns",), lambda turns: turns > 1, "max_turns > 1 (one turn has no history)"),
        Effect(
            "history_length",
            ("interaction", "context_overflow"),
            lambda interaction, overflow: interaction != "conversation" or overflow == "restart",
            "context_overflow: restart (a conversation shows it where it begins anew)",
        ),
    )

    environment: str = "grid"
    """Id, as `gigpo env list` shows it."""
    environment_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Settings of the environment, as JSON; `gigpo env show ID` lists its keys."""
    environment_rows: Rows = Field(default_factory=list, max_length=MOST_ROWS)
    """Settings that differ from task to task, as a list of mappings: each task takes one of them, by its seed, on top
    of environment_kwargs."""
    mixture: list[Member] = Field(default_factory=list, max_length=MOST_MEMBERS)
    """Several environments or data sets at once, as a list of members: `member` is a name, `weight` how often a group
    is of it; environment, environment_kwargs, environment_rows, max_turns, train_split, eval_split, prompt_template and
    system replace those of this section. Each member has a held-out panel and metrics of its own."""
    use_gym_env: bool = True
    """True: many turns in an environment. False: one reply to each prompt, scored by `reward_funcs`; the environment is
    `prompts` and max_turns 1 then."""
    max_turns: int = Field(20, ge=1)
    """Horizon of an episode, steps."""
    train_split: str = "train"
    """Split of the tasks that are trained on."""
    eval_split: str = "test"
    """Split of the tasks that evaluations use."""
    interaction: Literal["steps", "conversation", "outside"] = "steps"
    """The prompts of a policy: `steps`: each step's prompt alone, made anew; `conversation`: everything that was said
    before in the episode, as tokens; `outside`: what agents of your own send to the job's sessions."""
    session_timeout_s: float = Field(300.0, gt=0, le=86_400)
    """Longest time between two calls of an outside agent, seconds; then its session is abandoned and its group played
    again."""
    max_context_tokens: int | None = Field(None, ge=16)
    """Token budget of a conversation, responses included; null: max_position_embeddings of a policy from scratch, else
    16 prompts and responses of full length, 8,192 at most."""
    context_overflow: Literal["restart", "end"] = "restart"
    """The rule where a conversation outgrows its budget: `restart`: it begins anew with the prompt that `steps`
    would show, `end`: the episode ends there."""
    prompt_template: str = "auto"
    """How a step is put into words, as NAME/VERSION; `auto`: the template that suits the environment."""
    prompt_form: Literal["auto", "think", "plain", "tools"] = "auto"
    """`think`: instructions, and <think>...</think><action>...</action> as the reply; `plain`: words as they are, and
    the action as the reply; `tools`: calls of the environment's tools, in the model's own format; `auto`: where the
    tokenizer has a chat template, tools in an environment that has some and think in any other."""
    use_chat_template: bool = True
    """Wrap the prompt in the tokenizer's chat template, where it has one."""
    system: str | None = None
    """System message before every prompt."""
    system_role: Literal["system", "user"] = "system"
    """Which turn of the chat template has `system`; `user`: it stands before the prompt, for templates without a system
    role."""
    chat_template_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Further values for the chat template, such as {enable_thinking: false}."""
    chat_template_date: Day | None = None
    """The day that a chat template with a clock (`strftime_now`) writes, as YYYY-MM-DD. A submission without it sets
    its own; so a job's prompts do not change from day to day."""
    history_length: int = Field(0, ge=0)
    """Last K (observation, action) pairs shown in the prompt; of a conversation in a prompt that restarts it."""
    max_prompt_tokens: int = Field(128, ge=8)
    """Token budget of a prompt. A longer one is cut in this order: history, oldest turn first; the list of
    admissible actions; words of the observation, last first. The task never goes."""
    task_view: Literal["shown", "hidden", "shuffled"] = "shown"
    """The prompt's words about the task; `hidden` trains a policy that is never told its task:
    the baseline that every other policy must beat."""

    @model_validator(mode="before")
    @classmethod
    def _single_turn_defaults(cls, section: object) -> object:
        if not isinstance(section, dict) or section.get("use_gym_env") is not False:
            return section
        return {"environment": SINGLE_TURN, "max_turns": 1, **section}

    @field_validator("mixture")
    @classmethod
    def _members_differ(cls, members: list[Member]) -> list[Member]:
        names = [one.member for one in members]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ValueError(f"member: want names that differ, got {twice[0]} twice")
        return members

    @model_validator(mode="after")
    def _members_fit_the_horizon(self) -> Self:
        for at, one in enumerate(self.mixture):
            if one.max_turns is not None and one.max_turns > self.max_turns:
                raise ValueError(
                    f"mixture.{at}.max_turns: want at most max_turns = {self.max_turns} of the section, which is the "
                    f"longest of all, got {one.max_turns}"
                )
        return self

    def of(self, member: Member) -> Self:
        """The section as the groups of a member have it."""
        return self.model_copy(update={**member.changes, "mixture": []})

    def row(self, task_seed: int) -> dict[str, JsonValue]:
        """The kwargs of a task's own; empty without environment_rows."""
        return self.environment_rows[task_seed % len(self.environment_rows)] if self.environment_rows else {}

    @field_validator("chat_template_kwargs")
    @classmethod
    def _kwargs_leave_the_conversation(cls, kwargs: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if taken := [name for name in _OF_THE_CONVERSATION if name in kwargs]:
            raise ValueError(f"want other values than those that the platform gives, got {', '.join(taken)}")
        return kwargs

    @field_validator("prompt_template")
    @classmethod
    def _template_may_be_known(cls, name: str) -> str:
        known = template_names()
        if name == "auto" or name in known:
            return name
        ours = name.partition("/")[0] in {one.partition("/")[0] for one in known}
        if ours or template_of(f"{name.replace('/', '.')}.think.jinja") != name:
            raise ValueError(unknown_template(name))
        return name  # the environment may bring it; the API asks
