"""The flags and environment variables of a vLLM server, on a CPU and on a GPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from services.contracts.policy import PolicyManifest

PLUGINS = "gigpo_weights,gigpo_batch"
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
MIN_BATCHED_TOKENS = 4_096
"""Prompt tokens of one engine step; a CPU gains nothing from more, and the warm-up pass grows with it."""
CPU_BLOCK_TOKENS = 32
"""Granularity of the prefix cache, tokens: the smallest that vLLM's CPU attention takes (its default, 128, is longer
than our usual prompts, which would then share nothing)."""


LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""What vLLM can be started with; adapters of a smaller rank fit too."""
VERSIONS_AT_ONCE = 4
"""Adapters that prompts in flight may use; prompts of a fifth wait."""


@dataclass(frozen=True)
class VllmLimits:
    """How much of the machine the server may use; see settings.py."""

    max_batch: int = 128
    kv_cache_mib: int = 256
    gpu_memory: float = 0.6
    torch_threads: int = 1


def on_cuda(device: str) -> bool:
    """Whether `device` (`auto`, `cpu` or `cuda`) means a GPU here."""
    return device == "cuda" or (device == "auto" and NVIDIA_DRIVER.exists())


def server_flags(manifest: PolicyManifest, limits: VllmLimits, *, cuda: bool) -> list[str]:
    """What the server is told of the model and of how much it may use."""
    flags = {
        "--model": manifest.base,
        "--served-model-name": "policy",
        "--dtype": manifest.torch_dtype,
        "--max-model-len": str(manifest.max_model_len),
        "--max-num-seqs": str(limits.max_batch),
        "--max-num-batched-tokens": str(max(MIN_BATCHED_TOKENS, manifest.max_model_len)),
        "--logprobs-mode": "processed_logprobs",  # of the distribution that was sampled, temperature included
        "--generation-config": "vllm",  # the base's own sampling defaults would change that distribution
        "--weight-transfer-config": '{"backend": "file"}',
        "--shutdown-timeout": "5",
    }
    switches = ["--disable-uvicorn-access-log"]
    if manifest.adapter_rank:
        switches.append("--enable-lora")
        flags["--max-lora-rank"] = str(next(rank for rank in LORA_RANKS if rank >= manifest.adapter_rank))
        flags["--max-loras"] = str(VERSIONS_AT_ONCE)
    if manifest.deterministic:
        switches.append("--no-enable-prefix-caching")  # a cached prefix was computed in other company
        if not cuda:
            flags["--max-num-seqs"] = "1"  # batch invariance is for accelerators alone
    if cuda:
        flags["--gpu-memory-utilization"] = str(limits.gpu_memory)
    else:
        flags["--kv-cache-memory-bytes"] = str(limits.kv_cache_mib << 20)
        flags["--block-size"] = str(CPU_BLOCK_TOKENS)
        flags["--distributed-executor-backend"] = "uni"
        # seeds with chunked prefill end vLLM 0.32's CPU engine; compiling takes longer than a small model saves
        switches += ["--enforce-eager", "--no-enable-chunked-prefill"]
    return [*(part for pair in flags.items() for part in pair), *switches]


def environment(api_key: str, manifest: PolicyManifest, limits: VllmLimits, *, cuda: bool) -> dict[str, str]:
    """Variables for the server. The key goes here because any user can read a command line."""
    variables = {
        "VLLM_API_KEY": api_key,
        "VLLM_PLUGINS": PLUGINS,
        "VLLM_SERVER_DEV_MODE": "1",  # the weight update routes; the socket's folder keeps others out
        # the client ends idle connections; a server that does it while a request is on its way looks like a dead one
        "VLLM_HTTP_TIMEOUT_KEEP_ALIVE": "3600",
        "VLLM_NO_USAGE_STATS": "1",
        "VLLM_LOG_STATS_INTERVAL": "86400",  # its statistics are metrics; lines of the log every ten seconds are not
        "HF_HUB_OFFLINE": "1",  # the base is a folder; nothing is fetched
    }
    if cuda and manifest.deterministic:
        variables["VLLM_BATCH_INVARIANT"] = "1"  # compute capability 8.0 and more, says vLLM
    if not cuda:
        variables |= {"OMP_NUM_THREADS": str(limits.torch_threads), "TORCHDYNAMO_DISABLE": "1"}
        variables["VLLM_ENABLE_V1_MULTIPROCESSING"] = "0"
    return variables
