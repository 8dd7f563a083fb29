"""A job's settings of the vLLM server that samples for it; the operator's settings hold for the others."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue, field_validator

from services.contracts.section import Section

PASSED_ON = frozenset(
    {
        "attention_backend", "block_size", "compilation_config", "cpu_offload_gb", "disable_cascade_attn",
        "disable_custom_all_reduce", "enable_chunked_prefill", "enable_expert_parallel", "enforce_eager",
        "kv_cache_dtype", "long_prefill_token_threshold", "mamba_cache_dtype", "max_num_batched_tokens",
        "max_num_partial_prefills", "scheduling_policy", "speculative_config",
    }
)  # fmt: skip
"""Those of vLLM's own options that change its speed, and neither its samples nor its access."""


class VllmOptions(Section):
    """Options of vLLM, by ms-swift's names."""

    vllm_tensor_parallel_size: int = Field(1, ge=1, le=64)
    """Devices that share each layer of a replica; on a CPU, processes with a core each."""
    vllm_pipeline_parallel_size: int = Field(1, ge=1, le=64)
    """Devices that a replica's layers are dealt to."""
    vllm_gpu_memory_utilization: float | None = Field(None, gt=0, lt=1)
    """Share of a GPU's memory for vLLM; none: the installation's (INFERENCE_VLLM_GPU_MEMORY)."""
    vllm_max_model_len: int | None = Field(None, ge=16)
    """Longest sequence that vLLM is started for, tokens; none: as long as the job's can be."""
    vllm_max_num_seqs: int | None = Field(None, ge=1, le=65_536)
    """Prompts that vLLM samples together; none: the installation's (INFERENCE_MAX_BATCH)."""
    vllm_quantization: Literal["fp8"] | None = None
    """Number format of vLLM's copy of the weights; the trainer's keep theirs, so old log-probabilities differ."""
    vllm_enable_prefix_caching: bool = True
    """Keep keys and values of prompts for the next ones that begin alike."""
    vllm_engine_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Further options of vLLM by its names, such as {max_num_batched_tokens: 8192}."""

    OF_VLLM: ClassVar[tuple[str, ...]] = (
        "vllm_tensor_parallel_size",
        "vllm_pipeline_parallel_size",
        "vllm_gpu_memory_utilization",
        "vllm_max_model_len",
        "vllm_max_num_seqs",
        "vllm_quantization",
        "vllm_enable_prefix_caching",
        "vllm_engine_kwargs",
    )

    @field_validator("vllm_engine_kwargs")
    @classmethod
    def _only_what_may_be_passed_on(cls, kwargs: dict[str, JsonValue]) -> dict[str, JsonValue]:
        if unknown := sorted(kwargs.keys() - PASSED_ON):
            raise ValueError(f"want options among {', '.join(sorted(PASSED_ON))}, got {', '.join(unknown)}")
        return kwargs

    @property
    def devices(self) -> int:
        """How many one replica takes."""
        return self.vllm_tensor_parallel_size * self.vllm_pipeline_parallel_size
