"""Artifacts of a job: rollouts, anchors, checkpoints."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from pathlib import Path

from gigpo.client.asynchronous.downloads import Downloads
from gigpo.client.errors import BadAnswer, BadInput, NotFound
from gigpo.client.http.call import Call, get, nothing
from gigpo.client.models import Anchor, Checkpoint, Rollout, RolloutDetail
from gigpo.client.own_files import filling, foreign

_FOLDER = "/v1/jobs/{job_id}/checkpoints"
_WEIGHTS = (".safetensors", ".bin", ".index.json", "adapter_config.json")
"""How files end whose mere presence changes which weights a reader of the folder loads."""


class ArtifactCalls(Downloads):
    """Everything that a job leaves."""

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
    ) -> AsyncIterator[Rollout]:
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

    async def rollout(self, job_id: str, group_id: str) -> RolloutDetail:
        """One group with every step: prompt, response, reward, return, A^E, A^S, A, step-group members."""
        path = "/v1/jobs/{job_id}/rollouts/{group_id}"
        return await self._perform(get(path, RolloutDetail, job_id=job_id, group_id=group_id))

    def anchors(
        self,
        job_id: str,
        *,
        batch: int | None = None,
        group_id: str | None = None,
        min_visits: int | None = None,
        limit: int | None = None,
    ) -> AsyncIterator[Anchor]:
        """The states of a batch where episodes met, the actions taken there, their returns and advantages.

        Args:
            batch: None: the newest.
            group_id: of this group only.
            min_visits: steps taken from the state, at least; the API's default is 2.
        """
        query = {"batch": batch, "group_id": group_id, "min_visits": min_visits}
        return self._entries("/v1/jobs/{job_id}/anchors", "anchors", Anchor, query, limit=limit, job_id=job_id)

    async def checkpoints(self, job_id: str) -> list[Checkpoint]:
        """Complete checkpoints, the final one last."""
        return await self._all(_FOLDER, Checkpoint, job_id=job_id)

    async def download(self, job_id: str, checkpoint: str, file: str, target: Path, *, force: bool = False) -> Path:
        """Write one file of a checkpoint to `target`; there is a whole file or none.

        Raises:
            BadInput: `target` is there already and `force` is not given, or it is a folder.
            NotFound, BrokenDownload.
        """
        return await self._downloaded(_file(job_id, checkpoint, file), target, force=force)

    async def download_checkpoint(self, job_id: str, checkpoint: str, folder: Path, *, force: bool = False) -> Path:
        """Put the files of a checkpoint into `folder`, every one verified, once all of them are there.

        Files of an earlier download that nobody changed are replaced or removed; nothing else is ever removed.

        Args:
            force: `folder` may hold other files; those of the same name are replaced.

        Raises:
            BadInput: `folder` holds anything that gigpo did not write and `force` is not given; or, with `force`, other
                weights, which would be read with the new ones.
            NotFound: there is no such checkpoint.
            BrokenDownload: `folder` is as it was.
        """
        found = await self.checkpoints(job_id)
        wanted = next((one for one in found if one.name == checkpoint), None)
        if wanted is None:
            names = ", ".join(one.name for one in found) or "none"
            raise NotFound(404, f"no checkpoint {checkpoint!r} of job {job_id}, known: {names}")
        known = _promised(wanted)
        with filling(folder, "checkpoint", of=job_id, force=force, known=known) as arriving:
            _require_no_other_weights(folder, known)
            for file in wanted.files:
                call = _file(job_id, checkpoint, file.name)
                size, sha256 = file.size_bytes, file.sha256
                await self._downloaded(call, arriving / file.name, size=size, sha256=sha256)
        return folder

    async def export_checkpoint(self, job_id: str, checkpoint: str, target: Path, *, force: bool = False) -> Path:
        """Write a checkpoint as one tar file, a folder in Hugging Face format inside.

        Raises:
            BadInput: `target` is there already and `force` is not given, or it is a folder.
            NotFound, BrokenDownload.
        """
        call = Call("GET", f"{_FOLDER}/{{name}}/export", nothing, names=_names(job_id, checkpoint))
        return await self._downloaded(call, target, force=force)

    async def delete_checkpoint(self, job_id: str, checkpoint: str) -> None:
        """Delete a checkpoint for good. Raises NotFound, or Conflict when the job still needs it."""
        path = f"{_FOLDER}/{{name}}"
        return await self._perform(Call("DELETE", path, nothing, names=_names(job_id, checkpoint)))


def _promised(checkpoint: Checkpoint) -> dict[str, str]:
    """File name -> SHA-256, "" where the API knows none. Raises BadAnswer for a name that would leave its folder."""
    for file in checkpoint.files:
        if not file.name or file.name.startswith(".") or Path(file.name).name != file.name:
            raise BadAnswer(f"checkpoint {checkpoint.name}: want plain names of files, got {file.name!r}")
    return {file.name: file.sha256 or "" for file in checkpoint.files}


def _require_no_other_weights(folder: Path, files: Mapping[str, str]) -> None:
    others = [name for name in foreign(folder, "checkpoint") if name.endswith(_WEIGHTS) and name not in files]
    if others:
        raise BadInput(
            f"{folder} holds {others[0]}, other weights that would be loaded together with these; name another folder"
        )


def _names(job_id: str, checkpoint: str) -> Mapping[str, str]:
    return {"job_id": job_id, "name": checkpoint}


def _file(job_id: str, checkpoint: str, file: str) -> Call[None]:
    path = f"{_FOLDER}/{{name}}/files/{{file}}"
    return Call("GET", path, nothing, names={**_names(job_id, checkpoint), "file": file})
