"""Log-probabilities are the model's own forward, whatever it does to its logits."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from learner_cases import job_spec, naive_logprobs, row
from torch import Tensor, nn
from torch.testing import assert_close
from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedModel

from services.contracts.job import JobSpec, Model
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.learner import Learner
from services.trainer.learner.logprobs import Scorer
from services.trainer.learner.parts import Parts, checkpoint_activations
from services.trainer.learner.policy import load_policy
from services.trainer.learner.rows import Row
from services.trainer.learner.token_rows import TokenRows
from tests.models.architectures import ARCHITECTURES, VOCABULARY


def rows() -> list[Row]:
    generator = torch.Generator().manual_seed(0)

    def ids(number: int) -> list[int]:
        return torch.randint(1, VOCABULARY, (number,), generator=generator).tolist()

    return [row(ids(prompt), ids(response), 1.0) for prompt, response in ((3, 5), (12, 1), (30, 20), (7, 8))]


def tokens(wanted: list[Row]) -> TokenRows:
    return TokenRows([one.turn for one in wanted])


TREATED = {
    "gemma2": "a soft cap",
    "cohere": "a factor",
    "cohere2": "a factor, no position in every other layer",
    "granite": "a divisor",
    "falcon_h1": "factors that the body holds",
    "phi": "a bias",
    "recurrent_gemma": "a soft cap, of a body that is no transformer",
    "opt": "a body within the base model",
    "llama4_text": "a base model that is the whole",
    "gpt_oss": "eager attention",
    "bloom": "eager attention",
}


@pytest.mark.parametrize("scale", [1.0, 3.0])
@pytest.mark.parametrize("kind", TREATED)
def test_log_probabilities_are_those_of_the_whole_forward_at_any_weight_scale(kind: str, scale: float) -> None:
    model = ARCHITECTURES[kind].model()
    with torch.no_grad():
        for weight in model.parameters():
            weight.mul_(scale)
        scorer = Scorer(model, temperature=0.7, token_budget=60)
        scorer.policy.parts.check()
        got, _ = scorer.constants(tokens(rows()))
        assert_close(got, naive_logprobs(model, rows(), 0.7), atol=2e-5, rtol=1e-5)


def test_a_soft_cap_is_applied_where_logits_reach_it() -> None:
    model: Any = ARCHITECTURES["gemma2"].model()
    cap = model.config.final_logit_softcapping
    with torch.no_grad():
        model.model.norm.weight.fill_(30.0)
        uncapped = model.lm_head(Parts(model).hidden(torch.tensor([[1, 2, 3]])))
        capped = Parts(model).logits(Parts(model).hidden(torch.tensor([[1, 2, 3]]))[0])
    assert float(uncapped.abs().max()) > 2 * cap
    assert_close(capped, cap * torch.tanh(uncapped[0] / cap))


@pytest.mark.parametrize("kind", ["gemma2", "cohere", "phi"])
def test_gradients_are_those_of_the_whole_forward(kind: str) -> None:
    model = ARCHITECTURES[kind].model()
    weights = list(model.parameters())
    scorer, total = Scorer(model, temperature=1.0, token_budget=60, head_elements=600), torch.zeros(())
    for micro in tokens(rows()).plan(60):
        total = total + scorer.score(tokens(rows()), micro)[0].sum()
    got = torch.autograd.grad(total, weights)
    for found, wanted in zip(got, torch.autograd.grad(naive_logprobs(model, rows()).sum(), weights), strict=True):
        assert_close(found, wanted, atol=1e-4, rtol=1e-4)


class Blurred(nn.Module):
    """A head that adds up what stood before."""

    def __init__(self, head: nn.Module) -> None:
        super().__init__()
        self.head = head

    def forward(self, hidden: Tensor) -> Tensor:
        logits: Tensor = self.head(hidden.cumsum(1))
        return logits


def nan(model: Any) -> None:
    model.model.norm.weight.data[3] = torch.nan


def random(model: Any) -> None:
    model.model.layers[0].mlp = nn.Sequential(model.model.layers[0].mlp, nn.Dropout(0.5).train())


def blurred(model: Any) -> None:
    model.lm_head = Blurred(model.lm_head)


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (nan, "LlamaForCausalLM: its logits are not finite, so its weights hold NaN"),
        (random, "two passes over the same tokens give other logits"),
        (blurred, "can't be computed from its last hidden states position by position"),
    ],
)
@pytest.mark.parametrize("scale", [1e-3, 1.0])
def test_a_model_that_does_not_come_apart_is_refused_for_its_own_reason(
    spoil: Any, sentence: str, scale: float
) -> None:
    model: Any = ARCHITECTURES["llama"].model()
    spoil(model)
    with torch.no_grad():
        model.get_input_embeddings().weight.mul_(scale)
        for weight in model.lm_head.parameters():
            weight.mul_(scale)
    with pytest.raises(LearnerError, match=sentence):
        Parts(model).check()


def test_a_model_that_looks_ahead_is_refused() -> None:
    config = AutoConfig.for_model(
        "bert", vocab_size=32, hidden_size=32, intermediate_size=32, num_hidden_layers=1, num_attention_heads=1
    )
    auto: Any = AutoModelForCausalLM
    with pytest.raises(LearnerError, match="change with the tokens after it; want a causal model"):
        Parts(auto.from_config(config).eval()).check()


def gradients(model: PreTrainedModel, passes: list[int]) -> list[Tensor]:
    """Compute the gradient of a sum of log-probabilities; `passes` gets the forward passes of the first layer's first
    linear part."""
    first = next(module for module in model.modules() if isinstance(module, nn.Linear))
    first.register_forward_hook(lambda *_: passes.append(1))
    scorer, total = Scorer(model, temperature=1.0, token_budget=10_000), torch.zeros(())
    assert scorer.policy.parts is not None
    passes.clear()
    for micro in tokens(rows()).plan(10_000):
        total = total + scorer.score(tokens(rows()), micro)[0].sum()
    return list(torch.autograd.grad(total, list(model.parameters())))


@pytest.mark.parametrize("kind", ["falcon", "opt", "starcoder2", "bloom", "mixtral", "mamba", "qwen3_next"])
def test_activations_are_computed_again_without_dropout(kind: str) -> None:
    """Falcon, OPT and Starcoder2 call dropout as a function, Mixtral's router adds noise in training mode."""
    found, passes = [], list[int]()
    for again in (False, True):
        model = ARCHITECTURES[kind].model()
        if again:
            checkpoint_activations(model)
            Parts(model).check()
        found.append(gradients(model, passes))
        assert len(passes) == 1 + again
        assert not model.training
    assert all(torch.equal(left, right) for left, right in zip(*found, strict=True))


def test_a_model_whose_layers_can_not_be_computed_again_is_refused() -> None:
    with pytest.raises(LearnerError, match="gradient_checkpointing: OpenAIGPTLMHeadModel has no layers"):
        checkpoint_activations(ARCHITECTURES["openai-gpt"].model())


@pytest.mark.parametrize(("asked", "passes"), [(None, 2), (True, 2), (False, 1)])
def test_layers_of_a_given_model_are_computed_again_unless_the_job_says_no(
    tmp_path: Path, asked: bool | None, passes: int
) -> None:
    base = ARCHITECTURES["llama"].write(tmp_path / "base")
    limits = {"max_prompt_tokens": 40, "max_completion_length": 20, "minibatches": 1}
    spec = job_spec(gradient_checkpointing=asked, **limits)
    folder = spec.model_copy(update={"model": Model(model=str(base))})
    assert layer_passes(folder, base) == passes
    if asked is None:
        assert layer_passes(spec, base) == 1  # of a policy from scratch


def layer_passes(spec: JobSpec, base: Path) -> int:
    """How often a batch of one step runs the first layer's attention."""
    learner, seen = Learner(spec, base), []
    attention: Any = learner.model.get_submodule("model.layers.0.self_attn")
    attention.register_forward_hook(lambda *_: seen.append(1))
    learner.train_batch(rows()[:1], 0)
    return len(seen)


def test_a_model_whose_layers_can_not_be_computed_again_is_trained_where_nobody_asked(tmp_path: Path) -> None:
    base = ARCHITECTURES["openai-gpt"].write(tmp_path / "base")
    limits = {"max_prompt_tokens": 40, "max_completion_length": 20, "minibatches": 1}
    spec = job_spec(**limits).model_copy(update={"model": Model(model=str(base))})
    assert math.isfinite(Learner(spec, base).train_batch(rows()[:1], 0)["loss"])


@pytest.mark.parametrize("kind", ["gemma2", "falcon"])
def test_a_learner_with_a_reference_and_checkpointing_trains(tmp_path: Path, kind: str) -> None:
    base = ARCHITECTURES[kind].write(tmp_path / "base")
    spec = {"beta": 0.1, "max_prompt_tokens": 40, "max_completion_length": 20}
    plain, again = (Learner(job_spec(gradient_checkpointing=flag, **spec), base) for flag in (False, True))
    assert plain.train_batch(rows(), 0) == again.train_batch(rows(), 0)
    assert again.divergence(rows()) == plain.divergence(rows()) != [0.0] * 4


@pytest.mark.parametrize(
    ("kind", "attention"), [("bloom", "eager"), ("gpt_oss", "eager"), ("gemma2", "eager"), ("llama", "sdpa")]
)
def test_a_model_gets_the_fastest_attention_that_it_supports(tmp_path: Path, kind: str, attention: str) -> None:
    config: Any = load_policy(ARCHITECTURES[kind].write(tmp_path / "base")).config
    assert config._attn_implementation == attention


@pytest.mark.parametrize("kind", ["gemma2", "vaultgemma"])
def test_attention_scores_are_capped(tmp_path: Path, kind: str) -> None:
    """transformers' fast attention leaves the cap out without a word."""
    base = ARCHITECTURES[kind].write(tmp_path / "base")
    settings = json.loads((base / "config.json").read_text()) | {"attn_logit_softcapping": 0.05}
    (base / "config.json").write_text(json.dumps(settings))
    auto: Any = AutoModelForCausalLM
    ids = torch.tensor([[5, 9, 200, 7, 33, 12]])
    with torch.no_grad():
        got, wanted, uncapped = (
            model(input_ids=ids).logits
            for model in (
                load_policy(base),
                auto.from_pretrained(base, attn_implementation="eager"),
                auto.from_pretrained(base, attn_implementation="sdpa"),
            )
        )
    assert_close(got, wanted)
    assert float((got - uncapped).abs().max()) > 1e-3
