import json
from pathlib import Path

import pytest
import torch
from learner_cases import SCRATCH, job_spec, random_rows, same_bits, scratch_folder, weights_of
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.contracts.job import JobSpec, WarmStart
from services.trainer.learner.errors import StateError
from services.trainer.learner.files import file_hashes
from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import build_scratch


@pytest.fixture
def base(tmp_path: Path) -> Path:
    return scratch_folder(tmp_path / "base")


@pytest.mark.parametrize("beta", [0.0, 0.05])
def test_a_resumed_learner_goes_on_to_the_same_bits(tmp_path: Path, base: Path, beta: float) -> None:
    spec = job_spec(beta=beta, entropy_coef=0.01, num_iterations=2, microbatch_tokens=64)
    batches = [random_rows(12, seed=seed, repeats=4) for seed in range(3)]
    straight, first = Learner(spec, base), Learner(spec, base)
    wanted = [straight.train_batch(rows, batch) for batch, rows in enumerate(batches)]
    for batch in range(2):
        first.train_batch(batches[batch], batch)
    first.save(tmp_path / "state")
    second = Learner(spec, base)
    second.load(tmp_path / "state")
    assert second.optimizer_steps == 8
    assert second.train_batch(batches[2], 2) == wanted[2]
    assert same_bits(weights_of(second.model), weights_of(straight.model))
    assert file_hashes_of(second, tmp_path / "b") == file_hashes_of(straight, tmp_path / "a")


def file_hashes_of(learner: Learner, folder: Path) -> dict[str, str]:
    learner.save(folder)
    return file_hashes(folder)


def test_a_learner_can_be_saved_before_its_first_step(tmp_path: Path, base: Path) -> None:
    learner = Learner(job_spec(), base)
    files = learner.save(tmp_path / "state")
    assert files == file_hashes(tmp_path / "state")
    again = Learner(job_spec(), base)
    again.load(tmp_path / "state")
    assert again.optimizer_steps == 0
    assert same_bits(weights_of(again.model), weights_of(learner.model))


def test_nothing_in_a_saved_state_is_a_pickle(tmp_path: Path, base: Path) -> None:
    learner = Learner(job_spec(beta=0.1), base)
    learner.train_batch(random_rows(4), 0)
    learner.save(tmp_path / "state")
    assert sorted(path.name for path in (tmp_path / "state").iterdir()) == [
        "generator.safetensors",
        "learner.json",
        "optimizer.safetensors",
        "weights.safetensors",
    ]
    for path in (tmp_path / "state").glob("*.safetensors"):
        assert load_file(path)
    numbers = json.loads((tmp_path / "state" / "learner.json").read_text())["numbers"]
    assert numbers == {"base_is_reference": 1, "optimizer_steps": 2}


@pytest.mark.parametrize("name", ["learner.json", "weights.safetensors", "optimizer.safetensors"])
def test_a_missing_or_altered_file_is_refused(tmp_path: Path, base: Path, name: str) -> None:
    learner = Learner(job_spec(), base)
    learner.save(tmp_path / "state")
    path = tmp_path / "state" / name
    path.write_bytes(path.read_bytes()[:-3])
    with pytest.raises(StateError, match="state"):
        learner.load(tmp_path / "state")
    path.unlink()
    with pytest.raises(StateError, match="no saved learner"):
        learner.load(tmp_path / "state")


def test_the_state_of_another_policy_is_refused_and_nothing_is_loaded(tmp_path: Path, base: Path) -> None:
    build_scratch(SCRATCH, ["only", "four", "other", "words"], 0, tmp_path / "other")
    Learner(job_spec(), tmp_path / "other").save(tmp_path / "state")
    learner = Learner(job_spec(), base)
    before = weights_of(learner.model)
    with pytest.raises(StateError, match="embed_tokens"):
        learner.load(tmp_path / "state")
    assert same_bits(weights_of(learner.model), before)


def warmed(spec: JobSpec, base: Path) -> Learner:
    learner = Learner(spec, base)
    for _ in learner.supervise(
        [one.turn for one in random_rows(4)], WarmStart(warmstart_steps=2, warmstart_batch_size=4)
    ):
        pass
    return learner


def test_a_state_without_the_reference_is_refused_when_beta_wants_one(tmp_path: Path, base: Path) -> None:
    warmed(job_spec(beta=0.0), base).save(tmp_path / "state")
    with pytest.raises(StateError, match="reference"):
        Learner(job_spec(beta=0.1), base).load(tmp_path / "state")


@pytest.mark.parametrize("warm", [True, False])
def test_the_reference_is_saved_only_where_it_is_not_the_base(tmp_path: Path, base: Path, warm: bool) -> None:
    spec, rows = job_spec(beta=0.1), random_rows(6)
    first = warmed(spec, base) if warm else Learner(spec, base)
    first.train_batch(rows, 0)
    first.save(tmp_path / "state")
    assert (tmp_path / "state" / "reference.safetensors").exists() == warm
    second = Learner(spec, base)
    second.load(tmp_path / "state")
    assert second.divergence(rows) == first.divergence(rows)
    second.save(tmp_path / "again")
    assert file_hashes(tmp_path / "again") == file_hashes(tmp_path / "state")


def test_a_state_that_holds_the_base_as_its_reference_is_read(tmp_path: Path, base: Path) -> None:
    """Write the state as earlier versions did, without the number that says so."""
    spec, rows = job_spec(beta=0.1), random_rows(6)
    learner = Learner(spec, base)
    learner._reference_is_base = False
    learner.train_batch(rows, 0)
    learner.save(tmp_path / "state")
    index = tmp_path / "state" / "learner.json"
    index.write_text(json.dumps({**json.loads(index.read_text()), "numbers": {"optimizer_steps": 2}}))
    again = Learner(spec, base)
    again.load(tmp_path / "state")
    assert again.divergence(rows) == learner.divergence(rows)


@pytest.mark.parametrize("torch_dtype", ["float32", "bfloat16"])
def test_an_export_is_a_whole_hugging_face_folder(tmp_path: Path, base: Path, torch_dtype: str) -> None:
    (base / "modeling_evil.py").write_text("raise SystemExit")
    learner = Learner(job_spec(torch_dtype=torch_dtype), base)
    learner.train_batch(random_rows(6), 0)
    learner.export(tmp_path / "final")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "final")
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "final")
    assert model.dtype == getattr(torch, torch_dtype)
    assert model.config.vocab_size == len(tokenizer)
    assert not list((tmp_path / "final").glob("*.py"))
    trained = weights_of(learner.model)
    assert all(torch.equal(weight, trained[name].to(model.dtype)) for name, weight in weights_of(model).items())
    prompt = tokenizer("go north act", return_tensors="pt")
    words = tokenizer.decode(model.generate(**prompt, max_new_tokens=2)[0])
    assert words.startswith("go north act ")


def test_a_policy_version_holds_the_current_weights_alone(tmp_path: Path, base: Path) -> None:
    learner = Learner(job_spec(), base)
    learner.train_batch(random_rows(6), 0)
    files = learner.save_policy(tmp_path / "v1")
    assert files == file_hashes(tmp_path / "v1")
    saved = load_file(tmp_path / "v1" / "model.safetensors")
    assert same_bits(saved, weights_of(learner.model))
