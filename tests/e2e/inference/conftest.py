"""Small real models on disk, and where the vLLM environment is."""

from __future__ import annotations

import asyncio
import hashlib
import os
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import (
    AutoModelForCausalLM,
    DeepseekV3Config,
    DeepseekV3ForCausalLM,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3MoeConfig,
    Qwen3MoeForCausalLM,
)

from services.contracts.arrays import pack_int32, unpack_float32, unpack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import SampledTokens
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.probe import probe_of
from services.trainer.learner.tempered import TemperedPolicy
from services.trainer.learner.weights import save_weights

VLLM_PYTHON = Path(__file__).parents[3] / ".venv-vllm" / "bin" / "python"
WORDS = ["<pad>", "<eos>", "<unk>", *(f"w{number}" for number in range(93))]
MAX_MODEL_LEN = 128


SIZES = {
    "vocab_size": len(WORDS),
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.2,
    "bos_token_id": None,
    "eos_token_id": 1,
    "pad_token_id": 0,
}


def tied() -> PreTrainedModel:
    """A dense policy whose head is its embedding."""
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=True))


def untied() -> PreTrainedModel:
    """A dense policy with a head of its own."""
    return Qwen2ForCausalLM(Qwen2Config(**SIZES, tie_word_embeddings=False))


def experts() -> PreTrainedModel:
    """A mixture of experts."""
    sizes = {**SIZES, "moe_intermediate_size": 64, "num_experts": 4, "num_experts_per_tok": 2, "head_dim": 32}
    return Qwen3MoeForCausalLM(Qwen3MoeConfig(**sizes, tie_word_embeddings=False))


def latent() -> PreTrainedModel:
    """Experts chosen by sigmoid, and attention with compressed keys and values, in the one size that a CPU serves."""
    heads = {"kv_lora_rank": 512, "q_lora_rank": 16, "qk_rope_head_dim": 64, "qk_nope_head_dim": 16, "v_head_dim": 32}
    chosen = {"n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1}
    sizes = {**SIZES, **heads, **chosen, "moe_intermediate_size": 32, "first_k_dense_replace": 1}
    return DeepseekV3ForCausalLM(DeepseekV3Config(**sizes))


@dataclass
class Policies:
    """Versions of one from-scratch policy below a data folder, and what transformers says about them."""

    data_dir: Path
    max_model_len: int = MAX_MODEL_LEN
    build: Callable[[], PreTrainedModel] = tied

    def __post_init__(self) -> None:
        self.base = self.data_dir / "base"
        torch.set_num_threads(1)
        words = Tokenizer(models.WordLevel({word: index for index, word in enumerate(WORDS)}, unk_token="<unk>"))
        words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
        PreTrainedTokenizerFast(
            tokenizer_object=words, pad_token="<pad>", eos_token="<eos>", unk_token="<unk>"
        ).save_pretrained(self.base)
        self._write(0, self.base)

    def version(self, number: int, *, job: str = "job", engine: str = "vllm") -> PolicyManifest:
        """Manifest of version `number`, written when it is asked for first; every tensor differs from the others'."""
        folder = self.data_dir / f"v{number}"
        if not folder.exists():
            self._write(number, folder)
        file = folder / "model.safetensors"
        return PolicyManifest(
            job_id=job,
            version=number,
            base=str(self.base),
            base_sha="base",
            path=str(folder),
            files={file.name: hashlib.sha256(file.read_bytes()).hexdigest()},
            engine=engine,
            max_model_len=self.max_model_len,
            guided=True,
            most_kept=8,
            probe=probe_of(TemperedPolicy(self._load(number)), self.max_model_len),
        )

    def logprobs(
        self,
        number: int,
        prompt: list[int],
        response: list[int],
        temperature: float,
        replies: list[list[int]] | None = None,
    ) -> list[float]:
        """log p(response token | what stands before it) under version `number`, by one forward pass.

        `replies`: the response had to be one of them.
        """
        model = self._load(number)
        with torch.inference_mode():
            logits = model(torch.tensor([prompt + response])).logits[0, len(prompt) - 1 : -1]
            for place, row in enumerate(logits if replies else ()):
                others = [reply[place] for reply in replies or () if reply[:place] == response[:place]]
                row[[token for token in range(len(row)) if token not in others]] = -torch.inf
        table = torch.log_softmax(logits / temperature, dim=1)
        return [float(table[row, token]) for row, token in enumerate(response)]

    def scorer(self, number: int, temperature: float) -> Scorer:
        """The trainer's, with the weights of a version."""
        return Scorer(self._load(number), temperature=temperature, token_budget=4096)

    def _load(self, number: int) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.data_dir / f"v{number}", dtype=torch.float32)
        return model

    def _write(self, seed: int, folder: Path) -> None:
        torch.manual_seed(seed)
        model = self.build()
        model.config.architectures = [type(model).__name__]
        model.config.max_position_embeddings = 2 * self.max_model_len
        model.config.save_pretrained(folder)
        save_weights(model, folder)  # as the trainer publishes them


def assert_logprobs_agree(
    policies: Policies, prompt: list[int], completion: SampledTokens, temperature: float = 1.0, atol: float = 1e-3
) -> None:
    """Every token's log-probability equals transformers' under the version that the engine names for that token."""
    response, versions = unpack_int32(completion.response_ids), unpack_int32(completion.versions)
    found = unpack_float32(completion.logprobs)
    assert len(response) == len(versions) == len(found) > 0
    for number in set(versions):
        wanted = policies.logprobs(number, prompt, response, temperature)
        rows = [row for row, version in enumerate(versions) if version == number]
        assert max(abs(found[row] - wanted[row]) for row in rows) < atol, (number, versions)


def prompt_ids(number: int, length: int = 12) -> list[int]:
    """A prompt of ordinary words; different numbers give different prompts."""
    return [3 + (number * 7 + position * position) % 93 for position in range(length)]


def group_members(group: int) -> list[psutil.Process]:
    """Processes of a process group that run; zombies waiting for init do not."""
    members = []
    for process in psutil.process_iter():
        with suppress(psutil.NoSuchProcess, ProcessLookupError):
            if os.getpgid(process.pid) == group and process.status() != psutil.STATUS_ZOMBIE:
                members.append(process)
    return members


async def until_group_is_gone(group: int) -> None:
    """Return once nothing of the group runs; pytest's own timeout bounds it."""
    while group_members(group):
        await asyncio.sleep(0.05)


def packed(ids: list[int]) -> bytes:
    return pack_int32(ids)


@pytest.fixture(scope="session")
def vllm_python() -> Path:
    """The interpreter that has vLLM; without it the test is skipped on a laptop and fails in CI."""
    if not VLLM_PYTHON.exists():
        reason = f"no vLLM environment at {VLLM_PYTHON}: make install-vllm"
        if os.environ.get("CI") == "true":
            pytest.fail(reason)
        pytest.skip(reason)
    return VLLM_PYTHON


@pytest.fixture(scope="module")
def policies(tmp_path_factory: pytest.TempPathFactory) -> Policies:
    return Policies(tmp_path_factory.mktemp("policies"))
