"""The use cases that make a job: submit, retry, fork, evaluate.

A submitted job belongs to its caller's project; a job that is made from another one belongs to that job's project.
Everything that a new job takes over is copied into its folder before the job is stored, so that an acknowledged job no
longer needs the other one.
"""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Self

from pydantic import ValidationError
from sqlalchemy.exc import SQLAlchemyError

from services.api.artifacts.storage import job_folder
from services.api.jobs.checks import environment_of, folder_problems, placed, policy_fit
from services.api.jobs.derived_specs import evaluation_spec, fork_spec, stored_spec
from services.api.jobs.environments import EnvironmentCatalogue
from services.api.jobs.estimates import estimates, warnings
from services.api.jobs.fitting import misfits, too_long
from services.api.jobs.gathered_words import WordsUnknown
from services.api.jobs.hub import HubModel, HubProblem, hub_model
from services.api.jobs.machine import this_machine
from services.api.jobs.prompt_day import dated
from services.api.jobs.queries import find
from services.api.jobs.rates import earlier_jobs
from services.api.jobs.submissions import Answer, NewJob, Submissions, first_answer
from services.api.jobs.takeover import Policy, Taken, policy_of, training_of
from services.api.jobs.user_files import DATA_FIELD, FileProblem, names_files, own_words, with_kept_files
from services.api.rest.caller import Caller
from services.api.rest.problems import Problem, bad_spec
from services.api.security.addresses import data_problems, open_folders
from services.api.sql.database import Database
from services.api.sql.tables import JobRow
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, SpecError
from services.contracts.learner_memory import ONE_RANK, RankCount
from services.contracts.references import hub_name, hub_refusal, referenced_checkpoint
from services.contracts.rest.evaluations import EvaluationRequest
from services.contracts.rest.jobs import DryRun, Estimates, ForkRequest, Origin
from services.contracts.states import RETRIED, JobState


@dataclass(frozen=True)
class Call:
    """The caller, and the key that makes the call repeatable."""

    caller: Caller
    key: str | None
    """Idempotency-Key."""
    sha: str
    """`body_sha` of what is asked for."""

    def beside(self, job: JobRow) -> Self:
        """The same call for a job of that job's project, also when an administrator of another one asks."""
        return replace(self, caller=replace(self.caller, project_id=job.project_id))


class Admission:
    """Checks at the door, then a durable row.

    Args:
        wake: tells the reconciler that there is one.
        runs_here: trainer and engines run on this machine, so that jobs must fit it.
        hub_models: jobs may name models of the Hugging Face hub.
        ranks: of the trainer's learner.
        user_files: also callers with a key may name files of their own.
    """

    def __init__(
        self,
        database: Database,
        environments: EnvironmentCatalogue,
        *,
        data_dir: Path,
        model_roots: Sequence[Path],
        engines: Sequence[str],
        trackers: Sequence[str],
        wake: Callable[[], None],
        runs_here: bool = False,
        hub_models: bool = False,
        user_files: bool = False,
        ranks: RankCount = ONE_RANK,
    ) -> None:
        self._database, self._environments = database, environments
        self._data_dir, self._model_roots = data_dir, model_roots
        self._engines, self._trackers, self._wake = engines, trackers, wake
        self._submissions = Submissions(database)
        self._runs_here, self._hub_models, self._user_files = runs_here, hub_models, user_files
        self._ranks = ranks

    async def dry_run(self, caller: Caller, spec: JobSpec) -> DryRun:
        """The resolved job of a submission. Raises Problem 422 as the submission would."""
        spec, hub = await self._pinned(await self._kept(caller, spec))
        policy = await self._named_policy(caller, spec)
        environment, unsaid = await self._environment(caller, spec)
        told = await self._playing(spec, environment, policy, hub)
        needs, doubts = await self._fitting(spec, environment, policy, hub)
        said = [*unsaid, *told, *doubts]
        return DryRun(spec=spec.model_dump(mode="json"), environment=environment, estimates=needs, warnings=said)

    async def submit(self, call: Call, spec: JobSpec) -> Answer:
        """Store a job.

        Raises:
            Problem: 422 names every field that keeps it from running; 409 for a key that was used otherwise.
        """
        try:
            spec, hub = await self._pinned(await self._kept(call.caller, spec))
            policy = await self._named_policy(call.caller, spec)
            environment, unsaid = await self._environment(call.caller, spec)
            told = await self._playing(spec, environment, policy, hub)
            _, doubts = await self._fitting(spec, environment, policy, hub, timed=False)
        except Problem:  # what fails now may have passed when the key was used first; storing looks for the key anyway
            if first := await self._first(call):
                return first
            raise
        origin = Origin(kind="model", **policy.named) if policy else None
        doubts = [*unsaid, *told, *doubts]
        return await self._store(call, spec, environment, origin=origin, taken=policy, doubts=doubts)

    async def retry(self, call: Call, job: JobRow) -> Answer:
        """A new job that goes on where a failed or cancelled one has its newest checkpoint. Raises Problem 409."""
        call = call.beside(job)
        if first := await self._first(call):
            return first
        if JobState(job.state) not in RETRIED:
            raise Problem(409, f"cannot retry job {job.id}: want a failed or cancelled job, got state {job.state}")
        spec, environment = stored_spec(job.spec, job.id), _stored_environment(job)
        training = await asyncio.to_thread(training_of, job_folder(self._data_dir, job.id), job.id)
        if not training.has_base:
            await self._named_policy(call.caller, spec)
        origin = Origin(kind="retry", **training.named)
        return await self._store(call, spec, environment, origin=origin, taken=training, evaluation=job.is_evaluation)

    async def fork(self, call: Call, job: JobRow, wanted: ForkRequest) -> Answer:
        """A new job whose model is a checkpoint of another one. Raises Problem 404, 422."""
        call = call.beside(job)
        if first := await self._first(call):
            return first
        folder = job_folder(self._data_dir, job.id)
        policy = await asyncio.to_thread(policy_of, folder, job.id, checkpoint=wanted.checkpoint)
        spec = fork_spec(job.spec, job.id, policy.checkpoint, wanted)
        origin = Origin(kind="fork", **policy.named)
        environment, unsaid = await self._environment(call.caller, spec)
        told = await self._playing(spec, environment, policy)
        return await self._store(call, spec, environment, origin=origin, taken=policy, doubts=[*unsaid, *told])

    async def evaluate(self, call: Call, wanted: EvaluationRequest) -> Answer:
        """A job that measures a pinned policy of another one. Raises Problem 404, 422."""
        job = await find(self._database, call.caller, wanted.job_id)
        call = call.beside(job)
        if first := await self._first(call):
            return first
        folder = job_folder(self._data_dir, job.id)
        policy = await asyncio.to_thread(
            policy_of, folder, job.id, checkpoint=wanted.checkpoint, version=wanted.version
        )
        spec = evaluation_spec(job.spec, job.id, policy.checkpoint, wanted)
        origin = Origin(kind="evaluation", **policy.named)
        environment, _ = await self._environment(call.caller, spec)
        await self._playing(spec, environment, policy)
        return await self._store(call, spec, environment, origin=origin, taken=policy, evaluation=True)

    async def _first(self, call: Call) -> Answer | None:
        if call.key is None:
            return None
        return await first_answer(self._database, call.caller, call.key, call.sha)

    async def _kept(self, caller: Caller, spec: JobSpec) -> JobSpec:
        """The spec with its user's files kept on shared storage. Raises Problem 422."""
        if not names_files(spec):
            return spec
        if not (caller.trusted or self._user_files):
            wanted = {"rewards.reward_funcs": "an installed function", DATA_FIELD: "a folder below the data root"}
            refusal = "files of users are not taken here (API_USER_FILES), want"
            raise bad_spec([(field, f"{refusal} {wanted[field]}") for field in names_files(spec)])
        roots = open_folders(caller, self._model_roots)
        try:
            return await asyncio.to_thread(with_kept_files, spec, self._data_dir, roots)
        except FileProblem as refused:
            raise bad_spec([refused.problem]) from None

    async def _pinned(self, spec: JobSpec) -> tuple[JobSpec, HubModel | None]:
        """The spec with what it means now: the day of its prompts, the commit that its model's name on the hub has.

        Raises Problem 422.
        """
        spec = dated(spec)
        if spec.model.model is None or (name := hub_name(spec.model.model)) is None:
            return spec, None
        if not self._hub_models:
            raise bad_spec([("model.model", hub_refusal(name))])
        try:
            found = await asyncio.to_thread(hub_model, name, spec.model.model_revision)
        except HubProblem as problem:
            raise bad_spec([("model.model", str(problem))]) from None
        model = spec.model.model_copy(update={"model_revision": found.revision})
        return spec.model_copy(update={"model": model}), found

    async def _named_policy(self, caller: Caller, spec: JobSpec) -> Policy | None:
        """The checkpoint that `model.model` names; None: it is a folder, a model on the hub, or a new policy."""
        model = spec.model.model
        if model is None or spec.model.model_revision is not None:
            return None
        try:
            reference = referenced_checkpoint(model)
            if reference is None:
                folders = open_folders(caller, self._model_roots)
                if problems := await asyncio.to_thread(folder_problems, spec, self._data_dir, folders):
                    raise bad_spec(problems)
                return None
            job = await find(self._database, caller, reference[0])
            folder = job_folder(self._data_dir, job.id)
            return await asyncio.to_thread(policy_of, folder, job.id, checkpoint=reference[1])
        except ValueError as error:
            raise bad_spec([("model.model", str(error))]) from None
        except Problem as problem:
            raise problem if problem.status == 422 else bad_spec([("model.model", problem.detail)]) from None

    async def _environment(self, caller: Caller, spec: JobSpec) -> tuple[EnvironmentInfo, list[str]]:
        """The environment as the job uses it, and warnings about it. Raises Problem 422."""
        environment, problems = environment_of(spec, await self._environments.list(), self._engines, self._trackers)
        if environment is None:
            raise bad_spec(problems)
        folders = open_folders(caller, self._model_roots)
        outside = [
            problem
            for member, part in spec.parts.items()
            for problem in placed(spec, member, data_problems(part, folders, environment.part(member).kwargs_schema))
        ]
        if problems := [*outside, *problems]:
            raise bad_spec(problems)
        opened: dict[str, EnvironmentInfo] = {}
        unsaid: list[str] = []
        for member, part in spec.parts.items():
            try:
                opened[member], told = await self._opened(part, environment.part(member))
            except SpecError as refused:
                raise bad_spec(placed(spec, member, refused.problems)) from None
            unsaid += told
        return EnvironmentInfo.mixed(opened), unsaid

    async def _opened(self, spec: JobSpec, environment: EnvironmentInfo) -> tuple[EnvironmentInfo, list[str]]:
        """Open a session of one part of the job; return its environment as the session has it, and warnings. Raises
        SpecError."""
        environment, unsaid = await self._with_own_words(spec, environment)
        opening = await self._environments.opening(spec, _tried_kwargs(spec, environment))
        if (refusal := opening.refusal) is not None:
            of_rewards = refusal.startswith("reward_funcs: ")
            field = "rewards.reward_funcs" if of_rewards else "environment.environment_kwargs"
            raise SpecError([(field, refusal.removeprefix("reward_funcs: "))])
        if spec.rollout.guided_decoding is not None and not opening.names_actions:
            raise SpecError([("rollout.guided_decoding", unguided(environment.id))])
        if opening.tools_json:
            environment = environment.model_copy(update={"tools": json.loads(opening.tools_json)})
        if spec.model.scratch and not environment.vocabulary:
            return await self._with_words(spec, environment), unsaid
        return environment, unsaid

    async def _playing(
        self, spec: JobSpec, environment: EnvironmentInfo, policy: Policy | None, hub: HubModel | None = None
    ) -> list[str]:
        """Warnings about both for the user. Raises Problem 422 for anything that keeps the policy from being played."""
        files, said = policy.files if policy else None, list[str]()
        for member, part in spec.parts.items():
            info = environment.part(member)
            problems, told = await asyncio.to_thread(policy_fit, part, info, files, hub)
            if problems:
                raise bad_spec(placed(spec, member, problems))
            opening = await self._environments.opening(part, _tried_kwargs(part, info))  # it is remembered
            said += [sentence for sentence in (*told, *opening.warnings) if sentence not in said]
        return said

    async def _with_own_words(self, spec: JobSpec, environment: EnvironmentInfo) -> tuple[EnvironmentInfo, list[str]]:
        """Add the words of prompts that the job brings, for a policy from scratch: they are its vocabulary."""
        if spec.model.scratch is None or spec.environment.use_gym_env:
            return environment, []
        try:
            found = await asyncio.to_thread(own_words, spec, self._data_dir)
        except FileProblem as refused:
            raise SpecError([refused.problem]) from None
        if found is None:
            return environment, []
        return environment.model_copy(update={"vocabulary": found.words}), found.warnings

    async def _fitting(
        self,
        spec: JobSpec,
        environment: EnvironmentInfo,
        policy: Policy | None,
        hub: HubModel | None,
        *,
        timed: bool = True,
    ) -> tuple[Estimates, list[str]]:
        """The job's needs, and every warning about its settings; `timed`: its time too, which looks at earlier jobs.

        Raises Problem 422 for what never can fit.
        """
        earlier = await earlier_jobs(self._database, self._data_dir, environment.id) if timed else []
        files = policy.files if policy else None
        needs = await asyncio.to_thread(estimates, spec, environment, hub or files, earlier, self._ranks)
        doubts = [*too_long(spec, needs), *warnings(spec)]
        if self._runs_here:
            machine = await asyncio.to_thread(this_machine, self._data_dir)
            problems, tight = misfits(spec, needs, machine)
            if problems:
                raise bad_spec(problems)
            doubts = [*tight, *doubts]
        return needs, doubts

    async def _with_words(self, spec: JobSpec, environment: EnvironmentInfo) -> EnvironmentInfo:
        """The environment with a vocabulary that playing it gave. Raises SpecError where there is no end of words."""
        splits = (spec.environment.train_split, spec.environment.eval_split)
        practice = spec.model.warmstart.warmstart_environment_kwargs if spec.model.warmstart else {}
        words: set[str] = set()
        try:
            rows = spec.environment.environment_rows or [{}]
            for overrides in [*rows, *([{**rows[0], **practice}] if practice else [])]:
                kwargs = environment.kwargs(spec, overrides=overrides)
                words |= {*await self._environments.words(environment.id, kwargs, splits)}
        except WordsUnknown as why:
            sentence = (
                f"a policy from scratch needs every word of its environment. {environment.id} has no vocabulary(), and "
                f"{why}. Add vocabulary() to its class, or give the job a `model`"
            )
            raise SpecError([("model.scratch", sentence)]) from None
        return environment.model_copy(update={"vocabulary": sorted(words)})

    async def _store(
        self,
        call: Call,
        spec: JobSpec,
        environment: EnvironmentInfo,
        *,
        origin: Origin | None,
        taken: Taken | None,
        evaluation: bool = False,
        doubts: Sequence[str] = (),
    ) -> Answer:
        new = NewJob(
            caller=call.caller,
            spec=spec,
            environment=environment,
            key=call.key,
            sha=call.sha,
            kind="evaluation" if evaluation else "training",
            origin=origin,
            warnings=doubts,
        )
        return await asyncio.shield(asyncio.create_task(self._bring_and_store(new, taken)))

    async def _bring_and_store(self, new: NewJob, taken: Taken | None) -> Answer:
        """Runs to its end when whoever asked goes away: a job may be stored by then, and needs its folder."""
        folder, stored = job_folder(self._data_dir, new.id), False
        try:
            if taken is not None:
                await asyncio.to_thread(taken.bring, folder)
            answer = await self._submissions.store(new)
            stored = answer.new
        except (SQLAlchemyError, asyncio.CancelledError):
            stored = True  # perhaps: the connection, or this process, may have ended after the commit
            raise
        finally:
            if taken is not None and not stored:
                await asyncio.to_thread(shutil.rmtree, folder, ignore_errors=True)
        if stored:
            self._wake()
        return answer


def _tried_kwargs(spec: JobSpec, environment: EnvironmentInfo) -> dict[str, object]:
    """The kwargs of a session that is opened to try the job; of several rows, those of the first one."""
    return environment.kwargs(spec, overrides=next(iter(spec.environment.environment_rows), None))


def unguided(environment: str) -> str:
    """Why nobody can be guided in an environment."""
    return f"admissible_actions wants an environment that names them in its observations, {environment} names none"


def _stored_environment(job: JobRow) -> EnvironmentInfo:
    """Raises Problem 409 for what another version of the platform stored and this one does not know any more."""
    try:
        return EnvironmentInfo.model_validate(job.environment)
    except ValidationError as error:
        fields = ", ".join(".".join(map(str, one["loc"])) for one in error.errors())
        sentence = f"its environment is described as by another version of the platform, see {fields}"
        raise Problem(409, f"cannot retry job {job.id}: {sentence}; submit a new job instead") from None
