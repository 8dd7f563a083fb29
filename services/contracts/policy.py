"""Policy versions: the trainer's manifest, and a replica's answer before it serves the version."""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ConfigDict, Field

from services.contracts.jobfolder import JobFolder
from services.contracts.vllm_options import VllmOptions


class PolicyProbe(BaseModel):
    """The trainer's answers to a few prompts under a version's weights: a replica that loaded them must agree."""

    model_config = ConfigDict(frozen=True)

    prompts: list[list[int]]
    """Token ids of each, at least one."""
    response_ids: list[list[int]]
    """The likeliest token after each prompt, the likeliest one after that, and so on."""
    logprobs: list[list[float]]
    """Natural logarithm of their probabilities at temperature 1."""


class PolicyManifest(BaseModel):
    """Version `version` of a job's policy, complete on shared storage before this manifest is seen."""

    model_config = ConfigDict(frozen=True)

    job_id: str
    version: int = Field(ge=0)
    """0 is the policy before the first optimizer step; each trained batch adds 1."""
    base: str
    """Folder in Hugging Face format: config, tokenizer and version 0's weights; an engine starts from it."""
    base_sha: str
    """Hex digest of the base's config and tokenizer: an engine that runs another base must restart."""
    path: str
    """Folder with this version's safetensors."""
    files: dict[str, str]
    """File name -> hex sha256; a replica refuses a file that differs."""
    engine: str
    """`vllm` or `transformers`: which engine the job asked for."""
    torch_dtype: str = "float32"
    max_model_len: int = Field(gt=0)
    """Longest prompt plus response, tokens."""
    deterministic: bool = False
    """A prompt's tokens and log-probabilities may not depend on the prompts that it meets in the engine."""
    adapter_rank: int = Field(0, ge=0)
    """Rank of the LoRA adapter that `path` holds in peft's format; 0: it holds the whole model's weights."""
    guided: bool = False
    """Prompts may have choices: the engine samples among these alone."""
    most_kept: int = Field(0, ge=0)
    """Tokens among which each one is sampled at most (top_k); 0: among all."""
    vllm: VllmOptions = VllmOptions()
    """How a vLLM server is started for it."""
    probe: PolicyProbe | None = None
    """None: of a trainer that made none; then a replica has nothing to compare with."""

    def seen_at(self, data_dir: Path) -> PolicyManifest:
        """The same with the job's folders below `data_dir`, wherever the trainer saw them: a restored backup may lie
        elsewhere. Folders that are not a job's own stay what they are.
        """
        ours = JobFolder.of(data_dir.resolve(), self.job_id)
        moved = {"base": ours.base, "path": ours.policy(self.version)}
        return self.model_copy(update={name: _below(getattr(self, name), to, data_dir) for name, to in moved.items()})

    def same_start(self, other: PolicyManifest) -> bool:
        """Whether one engine, once started, can serve both versions."""
        fields = (
            "base_sha",
            "torch_dtype",
            "max_model_len",
            "deterministic",
            "adapter_rank",
            "guided",
            "most_kept",
            "vllm",
        )
        return all(getattr(self, name) == getattr(other, name) for name in fields)


def _below(told: str, ours: Path, data_dir: Path) -> str:
    tail = ours.relative_to(data_dir.resolve()).parts
    return str(ours) if Path(told).parts[-len(tail) :] == tail else told


class PolicyAck(BaseModel):
    """A replica's word that it serves a version."""

    model_config = ConfigDict(frozen=True, extra="ignore")  # earlier replicas send a `fingerprint` too

    replica: str
    version: int
    engine: str
    load_s: float
    """Seconds from seeing the manifest to serving it."""
    pause_s: float
    """Seconds during which sampling stood still."""


class PolicyRefusal(BaseModel):
    """A replica's word that it can't serve a version."""

    model_config = ConfigDict(frozen=True)

    replica: str
    version: int
    reason: str
    final: bool
    """Asking again can't help: the version's files are wrong, or the engine fails with them whenever it starts. False:
    the engine is started again."""


class ReplicaStatus(BaseModel):
    """The fields that rollout workers need to route a request."""

    model_config = ConfigDict(frozen=True)

    replica: str
    job_id: str | None
    """The job it serves; None: idle."""
    version: int
    """Version being served; -1: none yet."""
    engine: str
    state: str
    """`idle`, `starting`, `serving`, `draining`."""
    cpu_s: float = 0.0
    """CPU seconds that the replica and its engine have used since it began."""
    gpus: int = 0
    """GPUs that its engine holds."""
    outstanding_tokens: int = 0
    """Tokens of the prompts that it has not answered, and the most that may be sampled after them."""
