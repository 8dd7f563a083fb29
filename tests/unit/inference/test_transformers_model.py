"""The transformers engine's model takes versions as the trainer publishes them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from services.contracts.arrays import pack_int32, unpack_float32, unpack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, Sampling
from services.inference.engine import UpdateRejected
from services.inference.transformers_model import LoadedModel
from services.trainer.learner.policy import load_policy
from services.trainer.learner.weights import save_weights
from tests.models.architectures import ARCHITECTURES
from tests.unit.inference.policy_versions import manifest_of

IDS = torch.tensor([[1, 5, 9, 30]])


class Versions:
    """A base, and versions of it as a trainer would publish them."""

    def __init__(self, folder: Path, kind: str) -> None:
        self.base, self._folder = ARCHITECTURES[kind].write(folder / "base"), folder
        self.policy = load_policy(self.base)

    def publish(self, number: int) -> PolicyManifest:
        with torch.no_grad():
            for tensor in self.policy.state_dict().values():
                tensor.add_(0.01 * number)
        folder = self._folder / f"v{number}"
        save_weights(self.policy, folder)
        return manifest_of(folder, self.base, number)


def logits(model: PreTrainedModel) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(input_ids=IDS).logits
    return found


@pytest.mark.parametrize("kind", ["gpt_neox", "qwen3_moe", "mixtral", "deepseek_v3", "qwen2", "gemma2"])
def test_every_version_gives_the_trainers_logits(tmp_path: Path, kind: str) -> None:
    versions = Versions(tmp_path, kind)
    loaded = LoadedModel(versions.publish(0), torch_threads=1)
    for number in range(1, 4):
        loaded.load_version(versions.publish(number))
        assert torch.equal(logits(loaded.model), logits(versions.policy))


@pytest.mark.parametrize("key", ["attn_implementation", "_attn_implementation"])
def test_an_attention_that_a_config_names_is_chosen_by_neither_side(tmp_path: Path, key: str) -> None:
    versions = Versions(tmp_path, "llama")
    file = versions.base / "config.json"
    file.write_text(json.dumps(json.loads(file.read_bytes()) | {key: "flash_attention_2"}))
    policy, loaded = load_policy(versions.base), LoadedModel(versions.publish(0), torch_threads=1)
    assert policy.config._attn_implementation == loaded.model.config._attn_implementation == "sdpa"
    assert torch.equal(logits(loaded.model), logits(versions.policy))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"model.norm.weight": None}, r"lacks 1 tensor\(s\), the first is model\.norm\.weight"),
        ({"other.weight": torch.ones(2)}, r"has 1 tensor\(s\) too many, the first is other\.weight"),
        ({"model.norm.weight": torch.ones(2)}, r"model\.norm\.weight has the shape \(2,\), want \(64,\)"),
    ],
    ids=["lacks", "too many", "another shape"],
)
def test_tensors_of_another_model_are_refused_and_the_version_before_stays(
    tmp_path: Path, change: dict[str, torch.Tensor | None], sentence: str
) -> None:
    versions = Versions(tmp_path, "qwen2")
    loaded = LoadedModel(versions.publish(0), torch_threads=1)
    before = logits(loaded.model)
    file = Path(versions.publish(1).path) / "model.safetensors"
    tensors = load_file(file) | change
    save_file({name: tensor for name, tensor in tensors.items() if tensor is not None}, file, metadata={"format": "pt"})
    broken = manifest_of(file.parent, versions.base, 1)
    with pytest.raises(UpdateRejected, match=sentence):
        loaded.load_version(broken)
    assert torch.equal(logits(loaded.model), before)
    with pytest.raises(UpdateRejected, match=sentence):
        LoadedModel(broken, torch_threads=1)


WAYS = {
    "llama": "keys and values",
    "mistral": "keys and values in a window",
    "mamba": "states, which padding on the left would change",
    "lfm2": "states and keys and values, selected otherwise",
    "qwen3_next": "states and keys and values, selected otherwise",
    "jamba": "states and keys and values, selected otherwise",
    "bloom": "no argument for positions",
    "recurrent_gemma": "a cache that gives other logits",
    "rwkv": "a cache of its own kind",
    "openai-gpt": "no cache",
}
"""Caches by architecture: the memory that each keeps of the tokens it has seen."""


@pytest.mark.parametrize("kind", WAYS)
def test_every_architecture_samples_what_its_plain_forward_says(tmp_path: Path, kind: str) -> None:
    versions = Versions(tmp_path, kind)
    loaded = LoadedModel(versions.publish(0), torch_threads=1)
    texts = [[7, 8, 9, 10], list(range(20, 33)), [7, 8, 9, 10], [4, 3, 2, 1], [5] * 11]
    prompts = [Prompt(pack_int32(ids), seed) for seed, ids in enumerate(texts)]
    found = loaded.sample(prompts, Sampling(temperature=0.8, max_tokens=9, stop_token_ids=()))
    for ids, one in zip(texts, found, strict=True):
        response = unpack_int32(one.response_ids)
        with torch.no_grad():
            everything = versions.policy(input_ids=torch.tensor([[*ids, *response]]), use_cache=False).logits[0]
        table = torch.log_softmax(everything[len(ids) - 1 : -1] / 0.8, dim=1)
        wanted = [float(table[at, token]) for at, token in enumerate(response)]
        assert unpack_float32(one.logprobs) == pytest.approx(wanted, abs=1e-5)
    assert found[0] != found[2]  # one prompt, two seeds
    alone = loaded.sample(prompts[1:2], Sampling(temperature=0.8, max_tokens=9, stop_token_ids=()))
    assert alone[0].response_ids == found[1].response_ids
