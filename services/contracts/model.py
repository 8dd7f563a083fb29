"""The section `model` of a job spec: which policy is trained."""

from __future__ import annotations

from typing import ClassVar, Literal

from pydantic import Field, JsonValue, field_validator, model_validator

from services.contracts.effectless_options import effective_with
from services.contracts.references import hub_name
from services.contracts.section import Section


class ScratchModel(Section):
    """A small Qwen2 with random weights and a word tokenizer made from the environment's vocabulary."""

    hidden_size: int = Field(64, ge=32, multiple_of=32)
    """Width; heads of 32 are the smallest that vLLM serves."""
    intermediate_size: int = Field(128, ge=1)
    """Width of the feed-forward layers."""
    num_hidden_layers: int = Field(2, ge=1)
    """Layers."""
    num_attention_heads: int = Field(2, ge=1)
    """Attention heads of a layer; hidden_size / num_attention_heads is the size of a head."""
    max_position_embeddings: int = Field(256, ge=16)
    """Longest prompt and response together, tokens."""
    initializer_range: float = Field(0.05, gt=0)
    """Standard deviation of the random weights."""

    scratch_chat: bool = False
    """Give the tokenizer a chat template: turns of user, assistant and tool, and calls of tools as Hermes has them."""

    @model_validator(mode="after")
    def _head_size_is_served(self) -> ScratchModel:
        if (
            self.hidden_size % self.num_attention_heads
            or self.hidden_size // self.num_attention_heads not in HEAD_SIZES
        ):
            raise ValueError(
                f"hidden_size / num_attention_heads must be one of {sorted(HEAD_SIZES)} (what vLLM serves), "
                f"got {self.hidden_size} / {self.num_attention_heads}"
            )
        return self


HEAD_SIZES = frozenset({32, 64, 80, 96, 112, 128})
"""Head sizes that vLLM's CPU attention has kernels for."""


class WarmStart(Section):
    """Supervised start on random admissible actions: it teaches the format of a reply, no solution of any task."""

    warmstart_rows: int = Field(20_000, ge=1)
    """Steps of a random actor to learn from."""
    warmstart_steps: int = Field(300, ge=1)
    """Optimizer steps."""
    warmstart_batch_size: int = Field(128, ge=1)
    """Rows of an optimizer step."""
    warmstart_learning_rate: float = Field(2e-3, gt=0)
    """Learning rate of the warm start, which rises over 30 steps and falls to a tenth."""
    warmstart_environment_kwargs: dict[str, JsonValue] = Field(default_factory=dict)
    """Overrides while the random actor plays, e.g. a practice mode that shows every kind of state."""
    warmstart_max_invalid: float = Field(0.03, ge=0, le=1)
    """Gate: the largest share of invalid actions, on fresh tasks, with which training may begin."""


class Model(Section):
    """Which policy is trained: a folder in Hugging Face format, or a new small one."""

    model: str | None = None
    """Folder in Hugging Face format (config, tokenizer, safetensors); job:<job id>/<checkpoint>; or, where the
    installation allows it, OWNER/NAME on the Hugging Face hub."""
    model_revision: str | None = Field(None, pattern=r"^[A-Za-z0-9][A-Za-z0-9._/-]{0,127}$")
    """Branch, tag or commit of a model on the hub. A job holds the commit that it named at submission."""
    scratch: ScratchModel | None = None
    """A new small policy in place of a folder; {} is one of the default size."""
    warmstart: WarmStart | None = None
    """How the new policy learns the form of a reply before training; none: it begins with random weights."""
    torch_dtype: Literal["float32", "bfloat16"] = "float32"
    """Number format of the weights, in training and sampling."""
    tuner_type: Literal["full", "lora"] = "full"
    """The trained weights: all of them, or low-rank adapters beside frozen ones (arXiv 2106.09685)."""
    lora_rank: int = Field(8, ge=1, le=512)
    """Rank of an adapter's two matrices."""
    lora_alpha: float = Field(32.0, gt=0)
    """An adapter's product is scaled by lora_alpha / lora_rank."""
    lora_dropout: float = Field(0.0, ge=0, lt=1)
    """Share of an adapter's inputs that an optimizer step leaves out."""
    target_modules: list[str] = Field(default_factory=lambda: ["all-linear"], min_length=1)
    """Names of the layers that get an adapter, e.g. q_proj; all-linear: every linear layer but the head."""
    effects: ClassVar = tuple(
        effective_with(option, "tuner_type", ["lora"])
        for option in ("lora_rank", "lora_alpha", "lora_dropout", "target_modules")
    )

    @field_validator("target_modules", mode="before")
    @classmethod
    def _one_name_is_a_list_of_one(cls, value: object) -> object:
        return [value] if isinstance(value, str) else value

    @model_validator(mode="after")
    def _one_source(self) -> Model:
        if (self.model is None) == (self.scratch is None):
            raise ValueError(
                "want exactly one of `model` (a folder in Hugging Face format) and `scratch` (a new small policy)"
            )
        if self.model is not None and not self.model.strip():
            raise ValueError(f"want a folder in Hugging Face format, got {self.model!r}")
        if self.model_revision is not None and (self.model is None or hub_name(self.model) is None):
            raise ValueError(
                f"model_revision: want it with a model on the hub such as Qwen/Qwen3-0.6B, got {self.model}"
            )
        return self

    @model_validator(mode="after")
    def _adapters_begin_at_the_model(self) -> Model:
        if self.tuner_type == "lora" and self.warmstart is not None:
            raise ValueError("warmstart: want tuner_type: full with it, because it trains all weights, got lora")
        return self

    @property
    def adapter_rank(self) -> int:
        """Rank of the adapters; 0: all weights are trained."""
        return self.lora_rank if self.tuner_type == "lora" else 0
