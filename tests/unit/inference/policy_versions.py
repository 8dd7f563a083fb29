"""Policy versions on disk for tests: bare safetensors files, made with the standard library."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

from services.contracts.arrays import pack_float32
from services.contracts.policy import PolicyManifest, PolicyProbe


def write_tensors(file: Path, tensors: dict[str, list[float]]) -> None:
    """A safetensors file with one-dimensional float32 tensors."""
    header, payload = {}, b""
    for name, values in tensors.items():
        packed = pack_float32(values)
        header[name] = {"dtype": "F32", "shape": [len(values)], "data_offsets": [len(payload), len(payload + packed)]}
        payload += packed
    head = json.dumps(header).encode()
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(len(head).to_bytes(8, "little") + head + payload)


def manifest_of(
    folder: Path, base: Path, version: int, *, job: str = "job", engine: str = "fake", base_sha: str = "base"
) -> PolicyManifest:
    """The manifest of the safetensors files that lie in `folder`."""
    files = {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.glob("*.safetensors")}
    return PolicyManifest(
        job_id=job,
        version=version,
        base=str(base),
        base_sha=base_sha,
        path=str(folder),
        files=files,
        engine=engine,
        max_model_len=128,
    )


def probed(manifest: PolicyManifest, logprob: float = -1.0) -> PolicyManifest:
    """The manifest with a probe that the fake engine passes while its weights are right."""
    probe = PolicyProbe(prompts=[[3, 4], [5, 6]], response_ids=[[7, 8], [7, 8]], logprobs=[[logprob] * 2] * 2)
    return manifest.model_copy(update={"probe": probe})


def any_manifest(version: int, *, job: str = "job", engine: str = "fake", base_sha: str = "base") -> PolicyManifest:
    """A manifest for engines that look at no files."""
    return PolicyManifest(
        job_id=job,
        version=version,
        base="/nowhere",
        base_sha=base_sha,
        path=f"/nowhere/{version}",
        files={"model.safetensors": f"{version:064x}"},
        engine=engine,
        max_model_len=128,
    )
