"""Small random models of many architectures, with a byte-level tokenizer that transformers trained.

Each has at most a few hundred thousand parameters, heads of 32 (the smallest that vLLM's CPU attention takes) and,
where the architecture has them, experts, sliding windows, capped logits and biases.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

EOS = "<|end|>"
TEXTS = ["write the letters of the room", "go north and take the key", "<action>open the door</action>", "0123456789"]
POSITIONS = 256

torch.set_num_threads(1)  # as the embedded stack sets it; and sums come in one order

Sizes = dict[str, Any]


@cache
def tokenizer() -> Tokenizer:
    """All bytes, some merges, one special token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=288, special_tokens=[EOS], initial_alphabet=alphabet, show_progress=False, min_frequency=1
    )
    made.train_from_iterator(TEXTS, trainer)
    return made


VOCABULARY = 288
MODERN: Sizes = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "initializer_range": 0.1,
    "pad_token_id": None,
}
"""Names that most architectures share; a configuration keeps what it does not know as it is."""
HEADS: Sizes = {"head_dim": 32}
EXPERTS: Sizes = {"moe_intermediate_size": 32, "num_experts": 4, "num_experts_per_tok": 2}
LATENT: Sizes = {
    "moe_intermediate_size": 32,
    "n_routed_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "first_k_dense_replace": 1,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 32,
}
MAMBA: Sizes = {"hidden_size": 64, "num_hidden_layers": 2, "state_size": 8, "initializer_range": 0.1}


@dataclass(frozen=True)
class Architecture:
    """How a small model of one kind is made.

    Args:
        kind: `model_type` of the configuration.
        sizes: what differs from `MODERN`, or, where `alone`, the whole of it.
        vllm: whether the matrix serves it with vLLM on a CPU too.
    """

    kind: str
    sizes: Sizes = field(default_factory=dict)
    alone: bool = False
    vllm: bool = False

    def model(self, seed: int = 0) -> PreTrainedModel:
        """A new model with random weights."""
        sizes = {**({} if self.alone else MODERN), **self.sizes, "vocab_size": VOCABULARY}
        tokens = {"bos_token_id": None, "eos_token_id": 0}
        config = AutoConfig.for_model(self.kind, **sizes, **tokens)
        torch.manual_seed(seed)
        auto: Any = AutoModelForCausalLM
        model: PreTrainedModel = auto.from_config(config, dtype=torch.float32)
        return model.eval()

    def write(self, folder: Path, seed: int = 0) -> Path:
        """A folder in Hugging Face format, as `save_pretrained` writes it."""
        self.model(seed).save_pretrained(folder)
        write_tokenizer(folder)
        return folder


def write_tokenizer(folder: Path) -> None:
    """The tokenizer's files, with a chat template."""
    tokenizer().save(str(folder / "tokenizer.json"))
    template = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}policy:"
    settings = {"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": EOS, "chat_template": template}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings), encoding="utf-8")


def _kind(name: str, *parts: Sizes, alone: bool = False, vllm: bool = False, **sizes: Any) -> Architecture:
    merged: Sizes = {}
    for part in parts:
        merged |= part
    return Architecture(name, merged | sizes, alone, vllm)


ARCHITECTURES: dict[str, Architecture] = {
    one.kind: one
    for one in (
        _kind("llama", vllm=True),
        _kind("mistral", HEADS, sliding_window=8, vllm=True),
        _kind("qwen2", tie_word_embeddings=True, vllm=True),
        _kind("qwen3", HEADS, vllm=True),
        _kind("gemma", HEADS, vllm=True),
        _kind("gemma2", HEADS, sliding_window=8, query_pre_attn_scalar=32, vllm=True),
        _kind("vaultgemma", HEADS, sliding_window=8, query_pre_attn_scalar=32),
        _kind("gemma3_text", HEADS, sliding_window=8, query_pre_attn_scalar=32, vllm=True),
        _kind(
            "gemma3n_text",
            HEADS,
            sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
            num_kv_shared_layers=0,
            vocab_size_per_layer_input=VOCABULARY,
            hidden_size_per_layer_input=8,
            laurel_rank=8,
            activation_sparsity_pattern=None,
        ),
        _kind("phi", vllm=True),
        _kind("phi3", vllm=True),
        _kind("openai-gpt", n_embd=64, n_layer=2, n_head=2, n_positions=POSITIONS, alone=True),
        _kind("gpt2", n_embd=64, n_layer=2, n_head=2, n_positions=POSITIONS, alone=True, vllm=True),
        _kind(
            "gpt_neo",
            hidden_size=64,
            num_layers=2,
            num_heads=2,
            attention_types=[[["global", "local"], 1]],
            max_position_embeddings=POSITIONS,
            alone=True,
        ),
        _kind("gptj", n_embd=64, n_layer=2, n_head=2, n_positions=POSITIONS, rotary_dim=16, alone=True),
        _kind("gpt_neox", vllm=True),
        _kind("gpt_bigcode", n_embd=64, n_layer=2, n_head=2, n_positions=POSITIONS, alone=True),
        _kind("opt", ffn_dim=96, word_embed_proj_dim=64, vllm=True),
        _kind("bloom", hidden_size=64, n_layer=2, n_head=2, alone=True),
        _kind("falcon"),
        _kind("mpt", d_model=64, n_heads=2, n_layers=2, max_seq_len=POSITIONS, alone=True),
        _kind("codegen", n_embd=64, n_layer=2, n_head=4, n_positions=POSITIONS, rotary_dim=16, alone=True),
        _kind("stablelm"),
        _kind("starcoder2", residual_dropout=0.1, embedding_dropout=0.1, attention_dropout=0.1),
        _kind("olmo"),
        _kind("olmo2"),
        _kind("olmo3", sliding_window=8),
        _kind("cohere"),
        _kind("cohere2", sliding_window=8),
        _kind("granite", logits_scaling=8.0, residual_multiplier=0.5, embedding_multiplier=2.0, vllm=True),
        _kind("smollm3"),
        _kind("glm", HEADS),
        _kind("glm4", HEADS),
        _kind("nemotron"),
        _kind("persimmon"),
        _kind("exaone4", HEADS),
        _kind("helium", HEADS),
        _kind("ernie4_5", HEADS),
        _kind("hunyuan_v1_dense", HEADS),
        _kind("seed_oss", HEADS),
        _kind("apertus"),
        _kind("arcee"),
        _kind(
            "xglm",
            d_model=64,
            ffn_dim=96,
            num_layers=2,
            attention_heads=2,
            max_position_embeddings=POSITIONS,
            alone=True,
        ),
        _kind("biogpt"),
        _kind("mixtral", num_local_experts=4, num_experts_per_tok=2, vllm=True),
        _kind("qwen2_moe", EXPERTS, shared_expert_intermediate_size=32),
        _kind("qwen3_moe", HEADS, EXPERTS, vllm=True),
        _kind("olmoe", EXPERTS),
        _kind("phimoe", num_local_experts=4),
        _kind("granitemoe", num_local_experts=4, num_experts_per_tok=2),
        _kind("deepseek_v2", LATENT),
        _kind("deepseek_v3", LATENT, topk_method="noaux_tc", vllm=True),
        _kind("glm4_moe", HEADS, LATENT),
        _kind("ernie4_5_moe", HEADS, moe_intermediate_size=32, moe_num_experts=4, moe_k=2),
        _kind("gpt_oss", HEADS, num_local_experts=4, num_experts_per_tok=2, sliding_window=8),
        _kind("dots1", HEADS, LATENT, n_shared_experts=1),
        _kind("flex_olmo", EXPERTS),
        _kind("llama4_text", HEADS, intermediate_size_mlp=96, num_local_experts=4),
        _kind("mamba", MAMBA, alone=True),
        _kind("mamba2", MAMBA, num_heads=4, head_dim=32, n_groups=1, chunk_size=16, alone=True),
        _kind("falcon_mamba", MAMBA, alone=True),
        _kind("lfm2", layer_types=["conv", "full_attention"], block_multiple_of=32),
        _kind(
            "qwen3_next",
            HEADS,
            EXPERTS,
            shared_expert_intermediate_size=32,
            layer_types=["linear_attention", "full_attention"],
            linear_num_key_heads=2,
            linear_num_value_heads=2,
            linear_key_head_dim=16,
            linear_value_head_dim=16,
        ),
        _kind(
            "jamba",
            num_experts=4,
            num_experts_per_tok=2,
            attn_layer_period=2,
            attn_layer_offset=1,
            expert_layer_period=2,
            expert_layer_offset=1,
            mamba_d_state=8,
            mamba_dt_rank=8,
        ),
        _kind("bamba", attn_layer_indices=[1], mamba_n_heads=4, mamba_d_head=32, mamba_d_state=8, mamba_chunk_size=16),
        _kind(
            "falcon_h1", HEADS, mamba_d_ssm=64, mamba_n_heads=2, mamba_d_head=32, mamba_d_state=8, mamba_chunk_size=16
        ),
        _kind("recurrent_gemma", HEADS, lru_width=64, attention_window_size=8, block_types=["recurrent", "attention"]),
        _kind("bert", hidden_size=64, intermediate_size=96, num_hidden_layers=2, num_attention_heads=2, alone=True),
        _kind("rwkv", hidden_size=64, num_hidden_layers=2, context_length=POSITIONS, alone=True),
    )
}
