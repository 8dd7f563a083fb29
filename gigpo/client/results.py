"""The results folder of a finished job. Everything in it is fetched over REST."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import yaml

from gigpo.client.curves import curves_png
from gigpo.client.errors import BadInput
from gigpo.client.models import Job
from gigpo.client.own_files import Kind, filling, owner, remove_own, require_own
from gigpo.client.report import report_html
from gigpo.client.synchronous import GigpoClient
from services.contracts.summary import JobSummary

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Destination:
    """The folder for the results of a job: `output`, or else RUNS/<name or id>."""

    runs: Path
    output: Path | None
    force: bool
    """The folder may hold other files, and results of another job; what has the same name is replaced."""

    def folder(self, name: str, job_id: str = "") -> Path:
        """The folder of the job of this name, or id.

        Where RUNS/<name> holds what another job left, it is RUNS/<name>.2, or the first free one after that; `output`
        is taken as it is.
        """
        if self.output is not None:
            return self.output
        folders = (self.runs / (f"{name}.{number}" if number > 1 else name) for number in count(1))
        return next(folder for folder in folders if self.force or not other_owner(folder, job_id))


def other_owner(folder: Path, *job_ids: str) -> str | None:
    """Which job, other than these, left results or a checkpoint there, for a sentence; None: no other job did."""
    places: list[tuple[Path, Kind]] = [(folder, "result"), (folder / CHECKPOINT, "checkpoint")]
    owners = [found for place, kind in places if (found := owner(place, kind)) is not None and found not in job_ids]
    return None if not owners else f"job {owners[0]}" if owners[0] else "an earlier job"


def require_results_folder(folder: Path, *job_ids: str, force: bool) -> None:
    """Check that results of a job can be written there, in place of those of these jobs.

    Raises:
        BadInput: it, or `checkpoint` in it, holds anything that gigpo did not write, or results of other jobs, and
            `force` is not given.
    """
    require_own(folder, "result", force=force)
    require_own(folder / CHECKPOINT, "checkpoint", force=force)
    if not force and (other := other_owner(folder, *job_ids)):
        raise BadInput(f"{folder} holds results of {other}; name another folder, or give --force, which replaces them")


def save_results(
    client: GigpoClient,
    job: Job,
    folder: Path,
    *,
    force: bool = False,
    replaced: Sequence[str] = (),
    more: Mapping[str, str] | None = None,
) -> JobSummary | None:
    """Write summary.json, metrics.jsonl, spec.yaml, curves.png, report.html and checkpoint/.

    This job's earlier ones are replaced. With `force` also another job's, which are removed where this job has none:
    they must not pass for this one's.

    Args:
        force: the folder may hold other files, and results of another job.
        replaced: jobs whose results may be replaced too.
        more: name -> text of further files.

    Returns:
        The summary as it stands in summary.json; None: the job ended without one.

    Raises:
        BadInput: as `require_results_folder`.
    """
    require_results_folder(folder, job.id, *replaced, force=force)
    has_checkpoint = save_checkpoint(client, job.id, folder / CHECKPOINT, force=force)
    metrics = client.metrics(job.id)
    evaluations, summary, texts = client.evaluations(job.id), client.summary(job.id), dict(more or {})
    if summary is not None:
        summary = summary.model_copy(update={"checkpoint": CHECKPOINT if has_checkpoint else None})
        texts["summary.json"] = json.dumps(summary.model_dump(mode="json"), indent=2) + "\n"
        evaluations = summary.evaluations or evaluations
    texts["metrics.jsonl"] = "".join(json.dumps(row) + "\n" for row in metrics)
    texts["spec.yaml"] = yaml.safe_dump(job.spec or {}, sort_keys=False)
    curves = curves_png(metrics, evaluations)
    texts["report.html"] = report_html(job, summary, evaluations, curves, metrics)
    with filling(folder, "result", of=job.id, force=force) as arriving:
        for name, text in texts.items():
            (arriving / name).write_text(text)
        if curves is not None:
            (arriving / "curves.png").write_bytes(curves)
    return summary


def save_checkpoint(client: GigpoClient, job_id: str, target: Path, *, force: bool = False) -> bool:
    """Put the job's final checkpoint into `target`. False: it has none, and an earlier job's is removed."""
    final = next((one for one in client.checkpoints(job_id) if one.final), None)
    if final is None:
        remove_own(target, "checkpoint")
        return False
    client.download_checkpoint(job_id, final.name, target, force=force)
    return True
