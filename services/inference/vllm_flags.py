"""The flags and environment variables of a vLLM server, on a CPU and on a GPU."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path

from pydantic import JsonValue

from services.contracts.policy import PolicyManifest
from services.inference.vllm_models import model_flags

PLUGINS = "gigpo_weights,gigpo_batch"
GUIDANCE = "gigpo_vllm.choices:Choices"
"""Logits processor of prompts with choices."""
TRUNCATION = "gigpo_vllm.truncation:Truncation"
"""Logits processor of top_k, top_p and min_p."""
NVIDIA_DRIVER = Path("/proc/driver/nvidia")
MIN_BATCHED_TOKENS = 4_096
"""Prompt tokens of one engine step; a CPU gains nothing from more, and the warm-up pass grows with it."""
CPU_BLOCK_TOKENS = 32
"""Granularity of the prefix cache, tokens: the smallest that vLLM's CPU attention takes (its default, 128, is longer
than our usual prompts, which would then share nothing)."""


LORA_RANKS = (8, 16, 32, 64, 128, 256, 320, 512)
"""Ranks that vLLM can be started with; adapters of a smaller rank fit too."""
VERSIONS_AT_ONCE = 4
"""Adapters that prompts in flight may use; prompts of a fifth wait."""


@dataclass(frozen=True)
class VllmLimits:
    """How much of the machine the server may use; see settings.py."""

    max_batch: int = 128
    kv_cache_mib: int = 256
    gpu_memory: float = 0.6
    torch_threads: int = 1
    nodes: int = 1


def on_cuda(device: str) -> bool:
    """Whether `device` (`auto`, `cpu` or `cuda`) means a GPU here."""
    return device == "cuda" or (device == "auto" and NVIDIA_DRIVER.exists())


def server_flags(manifest: PolicyManifest, limits: VllmLimits, *, cuda: bool) -> list[str]:
    """The server's arguments about the model and the resources that it may use."""
    flags = {
        "--model": manifest.base,
        "--served-model-name": "policy",
        "--dtype": manifest.torch_dtype,
        "--max-model-len": str(manifest.max_model_len),
        "--max-num-seqs": str(limits.max_batch),
        "--max-num-batched-tokens": str(max(MIN_BATCHED_TOKENS, manifest.max_model_len)),
        "--logprobs-mode": "processed_logprobs",  # of the distribution sampled, temperature included
        "--generation-config": "vllm",  # the base's own sampling defaults would change that distribution
        "--weight-transfer-config": '{"backend": "file"}',
        "--shutdown-timeout": "5",
        **model_flags(Path(manifest.base), cuda=cuda),
    }
    options = manifest.vllm
    switches = ["--disable-uvicorn-access-log"]
    sizes = {
        "--max-num-seqs": options.vllm_max_num_seqs,
        "--quantization": options.vllm_quantization,
        "--tensor-parallel-size": options.vllm_tensor_parallel_size,
        "--pipeline-parallel-size": options.vllm_pipeline_parallel_size,
    }
    flags |= {flag: str(value) for flag, value in sizes.items() if value not in (None, 1)}
    if not options.vllm_enable_prefix_caching:
        switches.append("--no-enable-prefix-caching")
    processors = [GUIDANCE] * manifest.guided + [TRUNCATION] * bool(manifest.most_kept)
    if processors:
        switches += ["--logits-processors", *processors]
    if manifest.most_kept:
        flags["--max-logprobs"] = str(manifest.most_kept)
    if manifest.adapter_rank:
        switches.append("--enable-lora")
        flags["--max-lora-rank"] = str(next(rank for rank in LORA_RANKS if rank >= manifest.adapter_rank))
        flags["--max-loras"] = str(VERSIONS_AT_ONCE)
    if manifest.deterministic:
        switches.append("--no-enable-prefix-caching")  # a cached prefix was computed in other company
        if not cuda:
            flags["--max-num-seqs"] = "1"  # batch invariance is for accelerators alone
    if cuda:
        if limits.nodes > 1:
            flags["--distributed-executor-backend"] = "ray"
        flags["--gpu-memory-utilization"] = str(options.vllm_gpu_memory_utilization or limits.gpu_memory)
    else:
        flags["--kv-cache-memory-bytes"] = str(limits.kv_cache_mib << 20)
        flags["--block-size"] = str(CPU_BLOCK_TOKENS)
        flags["--distributed-executor-backend"] = "uni" if options.devices == 1 else "mp"
        # seeds with chunked prefill end vLLM 0.32's CPU engine; compiling takes longer than a small model saves
        switches += ["--enforce-eager", "--no-enable-chunked-prefill"]
    for name, value in options.vllm_engine_kwargs.items():
        _pass_on(flags, switches, name.replace("_", "-"), value)
    return [*(part for pair in flags.items() for part in pair), *switches]


def _pass_on(flags: dict[str, str], switches: list[str], name: str, value: JsonValue) -> None:
    """Add an option as vLLM's command line has it; it takes the place of ours."""
    if isinstance(value, bool):
        for switch in (f"--{name}", f"--no-{name}"):
            if switch in switches:
                switches.remove(switch)
        switches.append(f"--{name}" if value else f"--no-{name}")
    elif value is not None:
        flags[f"--{name}"] = json.dumps(value) if isinstance(value, dict | list) else str(value)


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
        if manifest.vllm.devices > 1:
            variables["VLLM_CPU_OMP_THREADS_BIND"] = cores_of_each(manifest.vllm.devices, limits.torch_threads)
    return variables


def cores_of_each(processes: int, threads: int) -> str:
    """Cores for each process, as vLLM reads them: `0,1|2,3`. Where there are too few, processes share them."""
    cores = sorted(os.sched_getaffinity(0))
    dealt = [[cores[(process * threads + one) % len(cores)] for one in range(threads)] for process in range(processes)]
    return "|".join(",".join(str(core) for core in sorted(set(mine))) for mine in dealt)
