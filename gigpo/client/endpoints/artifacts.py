"""What a job leaves: rollouts, anchors, checkpoints."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path

from gigpo.client.endpoints.base import Calls
from gigpo.client.errors import NotFound
from gigpo.client.http.binding import endpoint, source
from gigpo.client.http.call import Call, get, nothing
from gigpo.client.http.download import downloaded
from gigpo.client.http.flow import Flow, Source
from gigpo.client.models.artifacts import Anchor, Checkpoint, Rollout, RolloutDetail

_FOLDER = "/v1/jobs/{job_id}/checkpoints"


class ArtifactCalls(Calls):
    """Everything that a job leaves."""

    @source
    def rollouts(
        self,
        job_id: str,
        *,
        purpose: str | None = None,
        batch: int | None = None,
        label: str | None = None,
        won: str | None = None,
        min_length: int | None = None,
        max_length: int | None = None,
        limit: int | None = None,
    ) -> Source[Rollout]:
        """Groups in order of batch and cursor.

        Args:
            purpose: `training` (the default) or `evaluation`.
            label: of the evaluation, e.g. `after`.
            won: how many of the group's episodes succeeded: `all`, `some` or `none`.
            min_length, max_length: steps that an episode of the group has at least, at most.
            limit: at most so many groups; None: all.
        """
        query = {
            "purpose": purpose,
            "batch": batch,
            "label": label,
            "won": won,
            "min_length": min_length,
            "max_length": max_length,
        }
        return self._entries("/v1/jobs/{job_id}/rollouts", "rollouts", Rollout, query, limit=limit, job_id=job_id)

    @endpoint
    def rollout(self, job_id: str, group_id: str) -> Flow[RolloutDetail]:
        """One group with every step: prompt, response, reward, return, A^E, A^S, A, step-group members."""
        path = "/v1/jobs/{job_id}/rollouts/{group_id}"
        return self._perform(get(path, RolloutDetail, job_id=job_id, group_id=group_id))

    @source
    def anchors(
        self,
        job_id: str,
        *,
        batch: int | None = None,
        group_id: str | None = None,
        min_visits: int | None = None,
        limit: int | None = None,
    ) -> Source[Anchor]:
        """The states of a batch where episodes met, the actions taken there, their returns and advantages.

        Args:
            batch: None: the newest.
            group_id: of this group only.
            min_visits: steps taken from the state, at least; the API's default is 2.
        """
        query = {"batch": batch, "group_id": group_id, "min_visits": min_visits}
        return self._entries("/v1/jobs/{job_id}/anchors", "anchors", Anchor, query, limit=limit, job_id=job_id)

    @endpoint
    def checkpoints(self, job_id: str) -> Flow[list[Checkpoint]]:
        """Complete checkpoints, the final one last."""
        return self._perform(_checkpoints(job_id))

    @endpoint
    def download(self, job_id: str, checkpoint: str, file: str, target: Path) -> Flow[Path]:
        """Write one file of a checkpoint to `target`; there is a whole file or none.

        Raises:
            NotFound, BrokenDownload.
        """
        return downloaded(_file(job_id, checkpoint, file), target, self.retries)

    @endpoint
    def download_checkpoint(self, job_id: str, checkpoint: str, folder: Path) -> Flow[Path]:
        """Put a checkpoint, whole, in place of `folder`, every file verified.

        Raises:
            NotFound: there is no such checkpoint.
            BrokenDownload: `folder` is as it was.
        """
        found = yield from self._perform(_checkpoints(job_id))
        wanted = next((one for one in found if one.name == checkpoint), None)
        if wanted is None:
            names = ", ".join(one.name for one in found) or "none"
            raise NotFound(404, f"no checkpoint {checkpoint!r} of job {job_id}, there are: {names}")
        arriving = folder.with_name(f".{folder.name}.arriving")
        shutil.rmtree(arriving, ignore_errors=True)
        arriving.mkdir(parents=True)
        try:
            for file in wanted.files:
                call = _file(job_id, checkpoint, file.name)
                size, sha256 = file.size_bytes, file.sha256
                yield from downloaded(call, arriving / file.name, self.retries, size=size, sha256=sha256)
            shutil.rmtree(folder, ignore_errors=True)
            arriving.rename(folder)
        finally:
            shutil.rmtree(arriving, ignore_errors=True)
        return folder

    @endpoint
    def export_checkpoint(self, job_id: str, checkpoint: str, target: Path) -> Flow[Path]:
        """Write a checkpoint as one tar file, a folder in Hugging Face format inside."""
        path = f"{_FOLDER}/{{name}}/export"
        return downloaded(Call("GET", path, nothing, names=_names(job_id, checkpoint)), target, self.retries)

    @endpoint
    def delete_checkpoint(self, job_id: str, checkpoint: str) -> Flow[None]:
        """Delete a checkpoint for good. Raises NotFound, or Conflict when the job still needs it."""
        path = f"{_FOLDER}/{{name}}"
        return self._perform(Call("DELETE", path, nothing, names=_names(job_id, checkpoint)))


def _checkpoints(job_id: str) -> Call[list[Checkpoint]]:
    return get(_FOLDER, list[Checkpoint], job_id=job_id)


def _names(job_id: str, checkpoint: str) -> Mapping[str, str]:
    return {"job_id": job_id, "name": checkpoint}


def _file(job_id: str, checkpoint: str, file: str) -> Call[None]:
    path = f"{_FOLDER}/{{name}}/files/{{file}}"
    return Call("GET", path, nothing, names={**_names(job_id, checkpoint), "file": file})
