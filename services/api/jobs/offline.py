"""A dry run without a stack: the same checks and estimates on this machine's installation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from sqlalchemy.exc import SQLAlchemyError

from services.api.jobs.checks import Problems, environment_of, folder_problems, placed, policy_fit
from services.api.jobs.estimates import estimates, warnings
from services.api.jobs.fitting import misfits, too_long
from services.api.jobs.hub import HubModel, HubProblem, hub_model
from services.api.jobs.machine import this_machine
from services.api.jobs.prompt_day import dated
from services.api.jobs.rates import EarlierJob, earlier_jobs
from services.api.jobs.user_files import FileProblem, names_files, own_words, with_kept_files
from services.api.sql.database import Database
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec, SpecError
from services.contracts.learner_memory import RankSettings
from services.contracts.references import hub_name, referenced_checkpoint
from services.contracts.rest.catalogue import EnvironmentView
from services.contracts.rest.jobs import DryRun
from services.contracts.service_settings import read_settings


def offline_dry_run(spec: JobSpec, catalogue: Sequence[Mapping[str, object]], data_dir: Path) -> dict[str, object]:
    """`DryRun` as JSON values.

    Args:
        catalogue: `EnvironmentView`s as JSON values.
        data_dir: of a stack that is down; the time is estimated by its earlier jobs.

    Raises:
        SpecError: what keeps the job from running here, as far as it shows without a stack.
    """
    if spec.model.model is not None and referenced_checkpoint(spec.model.model) is not None:
        raise SpecError([("model.model", "a job's checkpoint is known to the stack alone; `gigpo up` starts it")])
    spec = dated(spec)
    views = [EnvironmentView.model_validate(one) for one in catalogue]
    environment, problems = environment_of(spec, views, [spec.inference.engine], spec.tracking.trackers)
    if environment is None or problems:
        raise SpecError(problems)
    parts: dict[str, EnvironmentInfo] = {}
    unsaid: list[str] = []
    for member, part in spec.parts.items():
        try:
            parts[member], told = _with_own_words(part, environment.part(member))
        except SpecError as refused:
            raise SpecError(placed(spec, member, refused.problems)) from None
        unsaid += told
    environment = EnvironmentInfo.mixed(parts)
    earlier = asyncio.run(_earlier_jobs(data_dir, environment.id))
    hub = _of_hub(spec)
    problems, told = _model_problems(spec, environment, data_dir, hub)
    if problems:
        raise SpecError(problems)
    needs = estimates(spec, environment, hub, earlier, read_settings(RankSettings).count)
    problems, doubts = misfits(spec, needs, this_machine(data_dir))
    if problems:
        raise SpecError(problems)
    said = [*unsaid, *_untried(spec), *told, *doubts, *too_long(spec, needs), *warnings(spec)]
    found = DryRun(spec=spec.model_dump(mode="json"), environment=environment, estimates=needs, warnings=said)
    return dict(json.loads(found.model_dump_json()))


def _model_problems(
    spec: JobSpec, environment: EnvironmentInfo, data_dir: Path, hub: HubModel | None
) -> tuple[Problems, list[str]]:
    """The environment as at a submission, with warnings."""
    named = spec.model.model is not None and hub is None
    if problems := folder_problems(spec, data_dir, None) if named else []:
        return problems, []
    told: list[str] = []
    for member, part in spec.parts.items():
        found, said = policy_fit(part, environment.part(member), None, hub)
        problems += placed(spec, member, found)
        told += [sentence for sentence in said if sentence not in told]
    return problems, told


def _with_own_words(spec: JobSpec, environment: EnvironmentInfo) -> tuple[EnvironmentInfo, list[str]]:
    """Read the words as a submission does, from copies that are thrown away; return warnings too."""
    with TemporaryDirectory() as folder:
        try:
            kept = with_kept_files(spec, Path(folder), None)
            brought = spec.model.scratch is not None and not spec.environment.use_gym_env
            found = own_words(kept, Path(folder)) if brought else None
        except FileProblem as refused:
            raise SpecError([refused.problem]) from None
    if found is None:
        return environment, []
    return environment.model_copy(update={"vocabulary": found.words}), found.warnings


def _untried(spec: JobSpec) -> list[str]:
    """Rows and reward functions are run by the environment service alone."""
    if not (fields := names_files(spec)):
        return []
    return [f"{', '.join(fields)}: what is in these files is tried at submission, or by a dry run beside `gigpo up`"]


def _of_hub(spec: JobSpec) -> HubModel | None:
    if spec.model.model is None or (name := hub_name(spec.model.model)) is None:
        return None
    try:
        return hub_model(name, spec.model.model_revision)
    except HubProblem as problem:
        raise SpecError([("model.model", str(problem))]) from None


async def _earlier_jobs(data_dir: Path, environment: str) -> list[EarlierJob]:
    file = data_dir / "platform.sqlite"
    if not file.is_file():
        return []
    database = Database(f"sqlite+aiosqlite:///{file.resolve()}")
    try:
        return await earlier_jobs(database, data_dir, environment)
    except SQLAlchemyError:  # the services are of another version
        return []
    finally:
        await database.close()
