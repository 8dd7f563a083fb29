from pathlib import Path

import pytest
import torch
from learner_cases import TOKENS, job_spec, naive_logprobs, random_rows, same_bits, scratch_folder, weights_of
from peft import PeftModel
from safetensors.torch import load_file

from services.trainer.learner.errors import LearnerError
from services.trainer.learner.files import file_hashes
from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import load_policy

LORA = {"tuner_type": "lora", "lora_rank": 4, "lora_alpha": 8.0}


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return scratch_folder(tmp_path / "base")


def trained(base: Path, batches: int = 2, **leaves: object) -> Learner:
    learner = Learner(job_spec(**LORA, **leaves), base)
    for batch in range(batches):
        learner.train_batch(random_rows(8, seed=batch), batch)
    return learner


def frozen(learner: Learner) -> dict[str, torch.Tensor]:
    return {name: weight for name, weight in weights_of(learner.model).items() if "lora_" not in name}


def logits(model: torch.nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=torch.arange(TOKENS)[None], use_cache=False).logits


def test_a_new_adapter_leaves_the_policy_as_it_was(base: Path) -> None:
    assert torch.equal(logits(Learner(job_spec(**LORA), base).model), logits(load_policy(base)))


def test_training_changes_the_adapters_alone(base: Path) -> None:
    before, learner = Learner(job_spec(**LORA), base), trained(base)
    assert same_bits(frozen(before), frozen(learner))
    changed = {
        name
        for name, weight in weights_of(learner.model).items()
        if not torch.equal(weight, weights_of(before.model)[name])
    }
    assert {name for name in weights_of(learner.model) if "lora_" in name} == changed
    assert len(changed) == 2 * 2 * 7  # two layers, each with seven linear ones, each with A and B


def test_one_step_is_that_of_the_product_by_the_chain_rule(base: Path) -> None:
    """The gradient of A is 0 with B = 0, and that of B is scale * gradient of the whole matrix * A^T."""
    rows = random_rows(8, seed=3)
    whole = Learner(job_spec(minibatches=1), base)
    lora = Learner(job_spec(**LORA, minibatches=1), base)
    name = "model.layers.0.mlp.up_proj"
    gradients = [gradient_of(learner, rows, name) for learner in (whole, lora)]
    layer = lora.model.get_submodule(name)
    a = layer.lora_A["default"].weight.detach()
    assert torch.allclose(gradients[1], 2.0 * gradients[0] @ a.T, atol=1e-6)
    assert torch.count_nonzero(gradients[1]) > 0


def gradient_of(learner: Learner, rows: list, name: str) -> torch.Tensor:
    loss = -naive_logprobs(learner.model, rows).sum()
    loss.backward()
    layer = learner.model.get_submodule(name)
    weight = layer.lora_B["default"].weight if hasattr(layer, "lora_B") else layer.weight
    return weight.grad.clone()


def test_the_reference_is_the_base_with_the_adapters_off(base: Path) -> None:
    learner = trained(base, beta=0.1)
    rows = random_rows(6, seed=9)
    reference = load_policy(base)
    with torch.no_grad():
        wanted = (naive_logprobs(learner.model, rows) - naive_logprobs(reference, rows)).double()
    assert sum(learner.divergence(rows)) == pytest.approx(float(wanted.sum()), abs=1e-4)
    assert abs(float(wanted.sum())) > 1e-3
    assert learner.train_batch(random_rows(8, seed=5), 2)["kl"] > 0


def test_a_resumed_learner_goes_on_to_the_same_bits(tmp_path: Path, base: Path) -> None:
    options = {"beta": 0.05, "lora_dropout": 0.2}
    straight, first = trained(base, 3, **options), trained(base, 2, **options)
    first.save(tmp_path / "state")
    second = Learner(job_spec(**LORA, **options), base)
    second.load(tmp_path / "state")
    second.train_batch(random_rows(8, seed=2), 2)
    assert same_bits(weights_of(second.model), weights_of(straight.model))


def test_a_checkpoint_holds_the_adapters_and_their_optimizer_alone(tmp_path: Path, base: Path) -> None:
    trained(base, beta=0.1).save(tmp_path / "state")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "generator.safetensors",
        "learner.json",
        "optimizer.safetensors",
        "weights.safetensors",
    ]
    assert all("lora_" in name for name in load_file(tmp_path / "state" / "weights.safetensors"))
    assert all("lora_" in name for name in load_file(tmp_path / "state" / "optimizer.safetensors"))


def test_peft_reads_a_published_version(tmp_path: Path, base: Path) -> None:
    learner = trained(base)
    files = learner.save_policy(tmp_path / "v")
    assert files == file_hashes(tmp_path / "v")
    assert files.keys() == {"adapter_model.safetensors", "adapter_config.json"}
    assert files == trained(base).save_policy(tmp_path / "again"), "one policy gives one file"
    loaded = PeftModel.from_pretrained(load_policy(base), str(tmp_path / "v"))
    assert torch.allclose(logits(loaded), logits(learner.model), atol=1e-6)


def test_an_export_is_a_whole_model_that_acts_alike(tmp_path: Path, base: Path) -> None:
    learner = trained(base)
    before = weights_of(learner.model)
    learner.export(tmp_path / "final")
    exported = load_policy(tmp_path / "final")
    assert torch.allclose(logits(exported), logits(learner.model), atol=1e-5)
    assert not torch.allclose(logits(exported), logits(load_policy(base)), atol=1e-3)
    assert load_file(tmp_path / "final" / "model.safetensors").keys() == load_file(base / "model.safetensors").keys()
    assert (tmp_path / "final" / "adapter" / "adapter_model.safetensors").is_file()
    assert same_bits(before, weights_of(learner.model)), "merging for an export leaves the learner as it was"
    assert learner.save_policy(tmp_path / "v")["adapter_model.safetensors"]


def test_dropout_changes_the_gradient_and_neither_scores_nor_the_callers_noise(base: Path) -> None:
    plain, dropped = trained(base, 1), trained(base, 1, lora_dropout=0.5)
    rows = random_rows(6, seed=9)
    assert not same_bits(weights_of(plain.model), weights_of(dropped.model))
    before = torch.get_rng_state()
    assert dropped.mismatch(rows) == dropped.mismatch(rows)
    dropped.train_batch(rows, 1)
    assert torch.equal(before, torch.get_rng_state())
    assert same_bits(
        weights_of(trained(base, 1, lora_dropout=0.5).model), weights_of(trained(base, 1, lora_dropout=0.5).model)
    )


def test_only_the_named_layers_get_an_adapter(base: Path) -> None:
    learner = Learner(job_spec(**LORA, target_modules=["q_proj", "v_proj"]), base)
    names = {name.split(".lora_")[0].rpartition(".")[2] for name in weights_of(learner.model) if "lora_" in name}
    assert names == {"q_proj", "v_proj"}
    with pytest.raises(LearnerError, match=r"target_modules: want names of this model's layers, got \['qproj'\]"):
        Learner(job_spec(**LORA, target_modules=["qproj"]), base)


def test_the_frozen_weights_stay_in_bfloat16_and_the_adapters_in_float32(base: Path) -> None:
    learner = trained(base, 1, torch_dtype="bfloat16")
    kinds = {("lora_" in name, weight.dtype) for name, weight in learner.model.named_parameters()}
    assert kinds == {(True, torch.float32), (False, torch.bfloat16)}


def test_gradient_checkpointing_gives_the_same_adapters(base: Path) -> None:
    plain, spared = trained(base, 1), trained(base, 1, gradient_checkpointing=True)
    assert all(
        torch.allclose(weight, weights_of(spared.model)[name], atol=1e-6)
        for name, weight in weights_of(plain.model).items()
    )
