"""The probe says what a plain forward pass says, and costs the job's randomness nothing."""

from __future__ import annotations

import pytest
import torch
from learner_cases import job_spec, naive_logits, scratch_folder

from services.contracts.policy import PolicyManifest
from services.trainer.learner.learner import Learner
from services.trainer.learner.probe import probe_of
from services.trainer.learner.tempered import TemperedPolicy


@pytest.fixture(scope="module")
def learner(tmp_path_factory: pytest.TempPathFactory) -> Learner:
    return Learner(job_spec(), scratch_folder(tmp_path_factory.mktemp("base")))


def test_the_probe_is_the_likeliest_continuation(learner: Learner) -> None:
    probe = learner.probe()
    assert probe is not None
    assert len({tuple(prompt) for prompt in probe.prompts}) == len(probe.prompts) == 4
    for prompt, response, logprobs in zip(probe.prompts, probe.response_ids, probe.logprobs, strict=True):
        assert (len(prompt), len(response)) == (16, 2)
        with torch.no_grad():
            likeliest = torch.log_softmax(naive_logits(learner.model, prompt, response), -1).max(dim=1)
        assert likeliest.indices.tolist() == response
        assert logprobs == pytest.approx(likeliest.values.tolist(), abs=1e-5)


def test_making_a_probe_uses_no_randomness(learner: Learner) -> None:
    before = torch.get_rng_state()
    assert learner.probe() == learner.probe()
    assert torch.equal(torch.get_rng_state(), before)


def test_a_short_model_gets_a_short_probe_or_none(learner: Learner) -> None:
    short = probe_of(TemperedPolicy(learner.model), 5)
    assert short is not None
    assert {len(prompt) for prompt in short.prompts} == {3}
    assert probe_of(TemperedPolicy(learner.model), 2) is None


def test_a_manifest_without_a_probe_is_still_read() -> None:
    """Publish as trainers before probes did."""
    fields = {"job_id": "j", "version": 0, "base": "/b", "base_sha": "s", "path": "/p", "files": {"f": "0"}}
    assert PolicyManifest(**fields, engine="vllm", max_model_len=8).probe is None  # type: ignore[arg-type]
