"""The playbook of a job: everything that its spec and its tokenizer decide about playing its groups, built once."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import Environment, JobSpec
from services.contracts.messages import OpenedGroup
from services.contracts.sampling import Sampling
from services.contracts.stored_spec import read_spec
from services.contracts.templates import plain_words, reply_tags
from services.rollout.conversation import Budget, Conversation, Dialogue, SeparateSteps, TurnWriter
from services.rollout.errors import AttemptFailed, JobNotReady, TokenizerError
from services.rollout.guided import GuidedReplies
from services.rollout.prompts import PromptWriter, Wording
from services.rollout.reply_format import MAX_CALLS, CallReader, Projection, ReplyReader
from services.rollout.templates import ChatOptions, ChatTemplate, SceneTemplate
from services.rollout.tokens import PolicyTokens, load_tokens
from services.rollout.tool_calls import Tool

log = structlog.get_logger("rollout")


@dataclass(frozen=True)
class Playbook:
    """One job, or one member of its mixture, as a player needs it."""

    job_id: str
    spec: JobSpec
    environment: EnvironmentInfo
    tokens: PolicyTokens
    prompts: PromptWriter
    turns: TurnWriter | None
    """Writes what the environment says in a conversation that goes on; None: each step stands alone."""
    tools: tuple[Tool, ...]
    """Tools that the policy may call; empty: its replies are no calls."""
    projection: ReplyReader
    sampling: Sampling
    guided: GuidedReplies | None = None
    """The replies of which a response must be one; None: it may be any."""

    def choices(self, admissible_actions: tuple[str, ...]) -> tuple[bytes, ...]:
        """The replies that the policy chooses among in a state; empty: it may say anything. Raises AttemptFailed."""
        return self.guided.of(admissible_actions) if self.guided is not None else ()

    def dialogue(self) -> Dialogue:
        """Make the dialogue of one episode."""
        if self.turns is None:
            return SeparateSteps(self.prompts)
        restarts = self.spec.environment.context_overflow == "restart"
        budget = Budget(self.spec.prompt_and_response_tokens, self.sampling.max_tokens, restarts)
        return Conversation(self.prompts, self.turns, budget, self.tokens.stop_ids)

    def with_tools(self, tools_json: str) -> Playbook:
        """The playbook for sessions with these tools, which may differ from task to task. AttemptFailed: they have
        none, or one that cannot be shown."""
        tools = json.loads(tools_json or "[]") if self.tools else []
        if tools == list(self.tools):
            return self
        if not tools:
            raise AttemptFailed(
                f"prompt_form: tools: want sessions with tools, {self.environment.id} opened one without"
            )
        environment = self.environment.model_copy(update={"tools": tools})
        try:
            return make_playbook(self.job_id, self.spec, environment, self.tokens)
        except TokenizerError as error:
            raise AttemptFailed(str(error)) from error

    def horizon(self, group: OpenedGroup) -> int:
        """Longest episode of the group, steps."""
        return group.max_turns or self.spec.environment.max_turns

    def kwargs(self, group: OpenedGroup) -> dict[str, object]:
        """The request that opens the group's sessions."""
        return self.environment.kwargs(self.spec, max_turns=group.max_turns, overrides=group.environment_kwargs)


def make_playbook(job_id: str, spec: JobSpec, environment: EnvironmentInfo, tokens: PolicyTokens) -> Playbook:
    """The playbook of a job. TokenizerError: the policy's files do not fit it."""
    wanted, template = spec.environment, environment.template(spec)
    form = environment.form(spec, has_chat_template=bool(tokens.chat_template))
    words = plain_words(template, environment.templates) if form == "plain" else []
    if unknown := tokens.unknown_words(words):
        log.warning("the tokenizer does not know words of the template", job=job_id, words=unknown)
    tools = _tools(environment, tokens) if form == "tools" else ()
    chat = chat_template_of(wanted, tokens, tools)
    turns = None
    if wanted.interaction == "conversation":
        turn = SceneTemplate(template, form, environment.templates, turn=True)
        turns = TurnWriter(turn, chat, tokens, wanted.max_prompt_tokens)
    projection = call_reader(chat, tools) if tools else Projection(reply_tags(template, form, environment.templates))
    longest = spec.rollout.max_completion_length
    return Playbook(
        job_id=job_id,
        spec=spec,
        environment=environment,
        tokens=tokens,
        prompts=PromptWriter(
            Wording(SceneTemplate(template, form, environment.templates), chat, wanted.system),
            tokens,
            wanted.max_prompt_tokens,
        ),
        turns=turns,
        tools=tools,
        projection=projection,
        sampling=Sampling(
            spec.rollout.temperature,
            longest,
            tokens.stop_ids,
            top_k=spec.rollout.top_k,
            top_p=spec.rollout.top_p,
            min_p=spec.rollout.min_p,
            stop_words=tuple(spec.rollout.stop_words),
        ),
        guided=GuidedReplies(tokens, projection, longest) if spec.rollout.guided_decoding is not None else None,
    )


def _tools(environment: EnvironmentInfo, tokens: PolicyTokens) -> tuple[Tool, ...]:
    """Raises TokenizerError: there is none, or one whose texts would be control tokens."""
    if not environment.tools:
        raise TokenizerError(f"prompt_form: tools: want an environment with tools, {environment.id} has none")
    for tool in environment.tools:
        if tokens.writes_control(json.dumps(tool, ensure_ascii=False)):
            raise TokenizerError(f"tools: {tool['name']}: want texts without the tokenizer's control tokens")
    return tuple(environment.tools)


def call_reader(chat: ChatTemplate | None, tools: tuple[Tool, ...]) -> CallReader:
    """Reads calls of these tools, as the template writes them. TokenizerError: it writes none that we can read."""
    if chat is None:
        raise TokenizerError("prompt_form: tools: want a tokenizer with a chat template, and use_chat_template: true")
    written, several = chat.call_format()
    return CallReader(written, tools, most=MAX_CALLS if several else 1)


def chat_template_of(wanted: Environment, tokens: PolicyTokens, tools: tuple[Tool, ...]) -> ChatTemplate | None:
    """The tokenizer's template for a job's chats; None: the job uses none.

    Raises:
        TokenizerError: it cannot write the job's prompts, or there is none for the values that the job has.
    """
    if not wanted.use_chat_template:
        return None
    if not tokens.chat_template:
        if wanted.chat_template_kwargs:
            names = ", ".join(wanted.chat_template_kwargs)
            raise TokenizerError(
                f"chat_template_kwargs: want a tokenizer with a chat template, got {names} without one"
            )
        return None
    options = ChatOptions(
        wanted.chat_template_kwargs,
        wanted.chat_template_date,
        wanted.system_role,
        stop_texts=tokens.stop_texts,
        tools=tools,
    )
    chat = ChatTemplate(tokens.chat_template, tokens.special, options)
    chat.check(wanted.system)
    if wanted.interaction == "conversation":
        chat.check_turns()
    return chat


async def load_playbooks(redis: Redis, data_dir: Path, job_id: str) -> dict[str, Playbook]:
    """The playbook of an active job, under the empty name; of a mixture one for each member, under its name.

    Raises:
        JobNotReady: the trainer has not written the job's base folder yet.
    """
    wanted = [keys.spec(job_id), keys.environment(job_id), keys.base(job_id)]
    spec, environment, base = cast("list[bytes | None]", await redis.mget(wanted))
    if spec is None or environment is None or base is None:
        raise JobNotReady(job_id)
    tokens = load_tokens(data_dir / base.decode())  # an absolute base stays as it is
    described = EnvironmentInfo.model_validate_json(environment)
    parts = read_spec(spec).parts.items()
    return {member: make_playbook(job_id, part, described.part(member), tokens) for member, part in parts}
