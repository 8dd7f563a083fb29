"""Weights are written under the names that a checkpoint of the model's kind has, whatever their names in memory."""

from pathlib import Path

import pytest
import torch
from learner_cases import job_spec, same_bits, weights_of
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers import AutoModelForCausalLM

from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import load_policy
from services.trainer.learner.weights import save_weights
from tests.models.architectures import ARCHITECTURES

RENAMED = ["gpt_neox", "qwen3_moe", "mixtral", "deepseek_v3", "ernie4_5_moe"]
"""Kinds that have other names in memory than in files, or persistent buffers."""


def tensors_in(folder: Path) -> dict[str, Tensor]:
    return load_file(folder / "model.safetensors")


@pytest.mark.parametrize("kind", [*RENAMED, "qwen2", "llama"])
def test_a_version_holds_what_save_pretrained_writes(tmp_path: Path, kind: str) -> None:
    base = ARCHITECTURES[kind].write(tmp_path / "base")
    save_weights(load_policy(base), tmp_path / "v0")
    assert same_bits(tensors_in(tmp_path / "v0"), tensors_in(base))


def test_a_base_with_the_names_of_memory_is_published_under_those_of_its_kind(tmp_path: Path) -> None:
    base = ARCHITECTURES["mixtral"].write(tmp_path / "base")
    wanted = tensors_in(base)
    save_file(load_policy(base).state_dict(), base / "model.safetensors", metadata={"format": "pt"})
    assert any(name.endswith("experts.gate_up_proj") for name in tensors_in(base))
    save_weights(load_policy(base), tmp_path / "v0")
    assert same_bits(tensors_in(tmp_path / "v0"), wanted)
    assert any(name.endswith("experts.3.w1.weight") for name in wanted)


def test_a_tied_head_that_the_base_holds_twice_is_written_once(tmp_path: Path) -> None:
    base = ARCHITECTURES["qwen2"].write(tmp_path / "base")
    wanted = tensors_in(base)
    twice = wanted | {"lm_head.weight": wanted["model.embed_tokens.weight"].clone(), "extra": torch.ones(3)}
    save_file(twice, base / "model.safetensors", metadata={"format": "pt"})
    save_weights(load_policy(base), tmp_path / "v0")
    assert same_bits(tensors_in(tmp_path / "v0"), wanted)


def test_rounding_leaves_buffers_as_they_are(tmp_path: Path) -> None:
    base = ARCHITECTURES["deepseek_v3"].write(tmp_path / "base")
    bias = "model.layers.1.mlp.gate.e_score_correction_bias"
    changed = tensors_in(base) | {bias: torch.tensor([0.1, 0.2, 0.30001, 0.4])}
    save_file(changed, base / "model.safetensors", metadata={"format": "pt"})
    save_weights(load_policy(base), tmp_path / "v0", "bfloat16")
    written = tensors_in(tmp_path / "v0")
    assert torch.equal(written.pop(bias), changed[bias])
    assert {tensor.dtype for tensor in written.values()} == {torch.bfloat16}


@pytest.mark.parametrize("kind", RENAMED)
def test_an_export_has_the_names_of_its_kind_and_is_read_again(tmp_path: Path, kind: str) -> None:
    base = ARCHITECTURES[kind].write(tmp_path / "base")
    learner = Learner(job_spec(), base)
    with torch.no_grad():
        for weight in learner.model.parameters():
            weight.mul_(1.01)
    learner.export(tmp_path / "final")
    assert tensors_in(tmp_path / "final").keys() == tensors_in(base).keys()
    again, report = AutoModelForCausalLM.from_pretrained(tmp_path / "final", output_loading_info=True)
    assert not any(report.values())
    assert same_bits(weights_of(again), weights_of(learner.model))


STALE = ("tf_model.h5", "flax_model.msgpack", "rust_model.ot", "model.onnx", "onnx/model.json", "model.ckpt.index")
ALONG = ("merges.txt", "tokenizer.model", "LICENSE", "additional_chat_templates/tools.jinja")


def test_an_export_holds_no_weights_in_another_format(tmp_path: Path) -> None:
    base = ARCHITECTURES["llama"].write(tmp_path / "base")
    others = ("model.safetensors.index.json", "evil.py")
    for name in (*STALE, *ALONG, *others):
        (base / name).parent.mkdir(exist_ok=True)
        (base / name).write_text("{}")
    Learner(job_spec(), base).export(tmp_path / "final")
    exported = {str(file.relative_to(tmp_path / "final")) for file in (tmp_path / "final").rglob("*") if file.is_file()}
    usual = {"config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"}
    assert exported == usual | set(ALONG)
