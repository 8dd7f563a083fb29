"""The results folder of a finished job. Everything in it is fetched over REST."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import yaml

from gigpo.client.curves import curves_png
from gigpo.client.models import Job
from gigpo.client.own_files import MARKER, filling, remove_own, require_own
from gigpo.client.report import report_html
from gigpo.client.synchronous import GigpoClient
from services.contracts.summary import JobSummary

CHECKPOINT = "checkpoint"


@dataclass(frozen=True)
class Destination:
    """Where the results of a job go: `output`, or else RUNS/<name or id>."""

    runs: Path
    output: Path | None
    force: bool
    """The folder may hold other files; those of the same name are replaced."""

    def folder(self, called: str) -> Path:
        """The folder of the job of this name, or id."""
        return self.output or self.runs / called


def require_results_folder(folder: Path, *, force: bool) -> bool:
    """Check that results can be written there. Returns whether those of an earlier job would be replaced.

    Raises:
        BadInput: it, or `checkpoint` in it, holds anything that gigpo did not write, and `force` is not given.
    """
    require_own(folder, "result", force=force)
    require_own(folder / CHECKPOINT, "checkpoint", force=force)
    return (folder / MARKER).is_file()


def save_results(
    client: GigpoClient, job: Job, folder: Path, *, force: bool = False, more: Mapping[str, str] | None = None
) -> JobSummary | None:
    """Write summary.json, metrics.jsonl, spec.yaml, curves.png, report.html and checkpoint/.

    Those of an earlier job are replaced, or removed where this job has none: they must not pass for this one's.

    Args:
        force: the folder may hold other files; those of the same name are replaced.
        more: name -> text of further files.

    Returns:
        The summary as it stands in summary.json; None: the job ended without one.

    Raises:
        BadInput: as `require_results_folder`.
    """
    require_results_folder(folder, force=force)
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
    texts["report.html"] = report_html(job, summary, evaluations, curves)
    with filling(folder, "result", force=force) as arriving:
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
