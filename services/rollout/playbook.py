"""How the groups of one job are played: everything that its spec and its tokenizer decide, made once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import structlog
from redis.asyncio import Redis

from services.contracts import keys
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.messages import OpenedGroup
from services.rollout.errors import JobNotReady
from services.rollout.ports import Sampling
from services.rollout.projection import PlainProjection, Projection, TaggedProjection
from services.rollout.prompts import ChatTemplate, PlainTemplate, PromptWriter, chosen_template
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
    projection: Projection
    sampling: Sampling

    def horizon(self, group: OpenedGroup) -> int:
        """Longest episode of the group, steps."""
        return group.max_turns or self.spec.environment.max_turns

    def kwargs(self, group: OpenedGroup) -> dict[str, Any]:
        """The environment's kwargs: the job's, overridden by the group's; the horizon where it can be told."""
        known: Any = self.environment.kwargs_schema.get("properties", {})
        horizon = {"max_turns": self.horizon(group)} if "max_turns" in known else {}
        return {**horizon, **self.spec.environment.environment_kwargs, **group.environment_kwargs}


def make_playbook(job_id: str, spec: JobSpec, environment: EnvironmentInfo, tokens: PolicyTokens) -> Playbook:
    """The playbook of a job. AttemptFailed: the template that is wanted does not fit the tokenizer."""
    template = chosen_template(spec.environment.prompt_template, environment.prompt_template, tokens)
    if isinstance(template, PlainTemplate) and (unknown := tokens.unknown_words(template.words)):
        log.warning("the tokenizer does not know words of the template", job_id=job_id, words=unknown)
    return Playbook(
        job_id=job_id,
        spec=spec,
        environment=environment,
        tokens=tokens,
        prompts=PromptWriter(template, tokens, spec.environment.max_prompt_tokens),
        projection=TaggedProjection() if isinstance(template, ChatTemplate) else PlainProjection(),
        sampling=Sampling(spec.rollout.temperature, spec.rollout.max_completion_length, tokens.stop_ids),
    )


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
    return make_playbook(
        job_id, JobSpec.model_validate_json(spec), EnvironmentInfo.model_validate_json(environment), tokens
    )
