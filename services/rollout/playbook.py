"""The playbook of a job: everything that its spec and its tokenizer decide about playing its groups, built once."""

from __future__ import annotations

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
from services.rollout.conversation import Budget, Conversation, Dialogue, SeparateSteps
from services.rollout.errors import JobNotReady, TokenizerError
from services.rollout.prompts import PromptWriter, TurnWording, Wording
from services.rollout.reply_format import Projection
from services.rollout.templates import ChatOptions, ChatTemplate, SceneTemplate
from services.rollout.tokens import PolicyTokens, load_tokens

log = structlog.get_logger("rollout")


@dataclass(frozen=True)
class Playbook:
    """One job as a player needs it."""

    job_id: str
    spec: JobSpec
    environment: EnvironmentInfo
    tokens: PolicyTokens
    prompts: PromptWriter
    turns: PromptWriter | None
    """Writes what the environment says in a conversation that goes on; None: each step stands alone."""
    projection: Projection
    sampling: Sampling

    def dialogue(self) -> Dialogue:
        """For one episode."""
        if self.turns is None:
            return SeparateSteps(self.prompts)
        restarts = self.spec.environment.context_overflow == "restart"
        budget = Budget(self.spec.prompt_and_response_tokens, self.sampling.max_tokens, restarts)
        return Conversation(self.prompts, self.turns, budget, self.tokens.stop_ids)

    def horizon(self, group: OpenedGroup) -> int:
        """Longest episode of the group, steps."""
        return group.max_turns or self.spec.environment.max_turns

    def kwargs(self, group: OpenedGroup) -> dict[str, object]:
        """What the group's sessions are opened with."""
        return self.environment.kwargs(self.spec, max_turns=group.max_turns, overrides=group.environment_kwargs)


def make_playbook(job_id: str, spec: JobSpec, environment: EnvironmentInfo, tokens: PolicyTokens) -> Playbook:
    """The playbook of a job."""
    wanted, template = spec.environment, environment.template(spec)
    form = wanted.prompt_form
    if form == "auto":
        form = "think" if tokens.chat_template and wanted.use_chat_template else "plain"
    if form == "plain" and (unknown := tokens.unknown_words(plain_words(template, environment.templates))):
        log.warning("the tokenizer does not know words of the template", job_id=job_id, words=unknown)
    chat = _chat_template(wanted, tokens)
    turns = None
    if wanted.interaction == "conversation":
        turn = SceneTemplate(template, form, environment.templates, turn=True)
        turns = PromptWriter(TurnWording(turn, chat), tokens, wanted.max_prompt_tokens)
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
        projection=Projection(reply_tags(template, form, environment.templates)),
        sampling=Sampling(spec.rollout.temperature, spec.rollout.max_completion_length, tokens.stop_ids),
    )


def _chat_template(wanted: Environment, tokens: PolicyTokens) -> ChatTemplate | None:
    """Raises TokenizerError: it cannot write the job's prompts, or there is none for the values that the job has."""
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
        wanted.chat_template_kwargs, wanted.chat_template_date, wanted.system_role, stop_texts=tokens.stop_texts
    )
    chat = ChatTemplate(tokens.chat_template, tokens.special, options)
    chat.check(wanted.system)
    if wanted.interaction == "conversation":
        chat.check_turns()
    return chat


async def load_playbook(redis: Redis, data_dir: Path, job_id: str) -> Playbook:
    """The playbook of an active job.

    Raises:
        JobNotReady: the trainer has not written the job's base folder yet.
    """
    wanted = [keys.spec(job_id), keys.environment(job_id), keys.base(job_id)]
    spec, environment, base = cast("list[bytes | None]", await redis.mget(wanted))
    if spec is None or environment is None or base is None:
        raise JobNotReady(job_id)
    tokens = load_tokens(data_dir / base.decode())  # an absolute base stays as it is
    return make_playbook(job_id, read_spec(spec), EnvironmentInfo.model_validate_json(environment), tokens)
