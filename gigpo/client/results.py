"""What a finished job leaves in the results' folder, all of it fetched over REST."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import yaml

from gigpo.client.curves import curves_png
from gigpo.client.models.jobs import Job
from gigpo.client.report import report_html
from gigpo.client.synchronous import GigpoClient

CHECKPOINT = "checkpoint"


def results_folder(runs: Path, job: Job, output: Path | None = None) -> Path:
    """`runs/<name or id>`, unless told otherwise."""
    return output or runs / (job.name or job.id)


def save_results(client: GigpoClient, job: Job, folder: Path) -> dict[str, Any] | None:
    """Write summary.json, metrics.jsonl, spec.yaml, curves.png, report.html and checkpoint/; older ones are replaced.

    Returns:
        The summary as it stands in summary.json; None: the job ended without one.
    """
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("summary.json", "curves.png"):  # an earlier job's must not pass for this one's
        (folder / name).unlink(missing_ok=True)
    has_checkpoint = save_checkpoint(client, job.id, folder / CHECKPOINT)
    metrics = client.metrics(job.id)
    evaluations = [one.model_dump(mode="json") for one in client.evaluations(job.id)]
    found = client.summary(job.id)
    summary = None
    if found is not None:
        summary = {**found.model_dump(mode="json"), "checkpoint": CHECKPOINT if has_checkpoint else None}
        _write(folder / "summary.json", json.dumps(summary, indent=2) + "\n")
        evaluations = summary["evaluations"] or evaluations
    _write(folder / "metrics.jsonl", "".join(json.dumps(row) + "\n" for row in metrics))
    _write(folder / "spec.yaml", yaml.safe_dump(job.spec or {}, sort_keys=False))
    curves = curves_png(metrics, evaluations)
    if curves is not None:
        (folder / "curves.png").write_bytes(curves)
    document = report_html(job.model_dump(), summary, evaluations, job.spec or {}, curves)
    _write(folder / "report.html", document)
    return summary


def save_checkpoint(client: GigpoClient, job_id: str, target: Path) -> bool:
    """Put the job's final checkpoint, whole, in place of `target`. False: it has none."""
    final = next((one for one in client.checkpoints(job_id) if one.final), None)
    if final is None:
        shutil.rmtree(target, ignore_errors=True)
        return False
    client.download_checkpoint(job_id, final.name, target)
    return True


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_text(text)
    temporary.replace(path)
