"""Policy versions that are LoRA adapters, on both engines: each is served as the trainer's model has it."""

import asyncio
import hashlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio
import torch
from transformers import AutoModelForCausalLM, PreTrainedModel

from services.contracts.arrays import unpack_int32
from services.contracts.model import Model
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Sampling
from services.inference.engine import Engine, UpdateRejected
from services.inference.probe import wrong_weights
from services.inference.transformers_engine import TransformersEngine
from services.inference.vllm_engine import VllmEngine, VllmSettings
from services.trainer.learner.adapter import adapter_tensors, add_adapter, write_adapter
from services.trainer.learner.probe import probe_of
from services.trainer.learner.tempered import TemperedPolicy
from tests.e2e.inference.conftest import Policies, assert_logprobs_agree, prompt_ids
from tests.e2e.inference.test_engine_contract import completions

pytestmark = pytest.mark.asyncio(loop_scope="module")

LORA = Model.model_validate({"model": "base", "tuner_type": "lora", "lora_rank": 6})


@dataclass
class Adapters(Policies):
    """Versions of one frozen policy, each a random adapter."""

    def version(self, number: int, *, job: str = "job", engine: str = "vllm") -> PolicyManifest:
        folder = self.data_dir / f"v{number}"
        model = self._load(number)
        if not folder.exists():
            write_adapter(model, folder, adapter_tensors(model))
        return PolicyManifest(
            job_id=job,
            version=number,
            base=str(self.base),
            base_sha="base",
            path=str(folder),
            files={file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in folder.iterdir()},
            engine=engine,
            max_model_len=self.max_model_len,
            adapter_rank=LORA.adapter_rank,
            probe=probe_of(TemperedPolicy(model), self.max_model_len),
        )

    def _load(self, number: int) -> PreTrainedModel:
        model: PreTrainedModel = AutoModelForCausalLM.from_pretrained(self.base, dtype=torch.float32)
        add_adapter(model, LORA, number)
        noise = torch.Generator().manual_seed(number)
        for name, weight in model.named_parameters():
            if "lora_B" in name:
                weight.data.normal_(0.0, 0.1, generator=noise)
        return model


@pytest.fixture(scope="module")
def adapters(tmp_path_factory: pytest.TempPathFactory) -> Adapters:
    return Adapters(tmp_path_factory.mktemp("adapters"))


@pytest_asyncio.fixture(
    scope="module", loop_scope="module", params=["transformers", pytest.param("vllm", marks=pytest.mark.vllm)]
)
async def engine(request: pytest.FixtureRequest, adapters: Adapters) -> AsyncIterator[Engine]:
    """An engine that started with version 3."""
    data_dir = adapters.data_dir
    made: Engine
    if request.param == "vllm":
        python: Path = request.getfixturevalue("vllm_python")
        made = VllmEngine(VllmSettings(python=python, data_dir=data_dir, log=data_dir / "vllm.log"))
    else:
        made = TransformersEngine(data_dir)
    await made.start(adapters.version(3, engine=request.param))
    yield made
    await made.stop()


async def test_after_a_start_and_every_update_logprobs_are_those_of_the_adapter(
    engine: Engine, adapters: Adapters
) -> None:
    prompts = [prompt_ids(seed, 5 + 9 * seed) for seed in range(6)]  # the same ones: each fills the prefix cache
    for number in (3, 1, 2, 3, 4, 5, 6, 7):
        await engine.update(adapters.version(number, engine=engine.name))
        assert await wrong_weights(engine, adapters.version(number)) is None
        for prompt, completion in zip(prompts, await completions(engine, prompts), strict=True):
            assert set(unpack_int32(completion.versions)) == {number}
            assert_logprobs_agree(adapters, prompt, completion, atol=1e-4)


async def test_the_probe_tells_an_adapter_from_every_other_and_from_none(engine: Engine, adapters: Adapters) -> None:
    await engine.update(adapters.version(1, engine=engine.name))
    base = AutoModelForCausalLM.from_pretrained(adapters.base, dtype=torch.float32)
    bare = adapters.version(1).model_copy(update={"probe": probe_of(TemperedPolicy(base), adapters.max_model_len)})
    for other in (adapters.version(2), bare):
        assert "'s weights" in str(await wrong_weights(engine, other))


async def test_a_reply_in_flight_has_the_version_that_sampled_it(engine: Engine, adapters: Adapters) -> None:
    sampling = Sampling(temperature=1.0, max_tokens=80, stop_token_ids=())
    await engine.update(adapters.version(1, engine=engine.name))
    prompts = [prompt_ids(seed, 20) for seed in range(8)]
    flight = asyncio.create_task(completions(engine, prompts, sampling))
    await asyncio.sleep(0.2)
    await engine.update(adapters.version(2, engine=engine.name))
    later = await completions(engine, prompts[:2], sampling)
    for prompt, completion in [*zip(prompts, await flight, strict=True), *zip(prompts, later, strict=False)]:
        assert_logprobs_agree(adapters, prompt, completion)
    assert {version for completion in later for version in unpack_int32(completion.versions)} == {2}


async def test_a_damaged_adapter_changes_nothing(engine: Engine, adapters: Adapters) -> None:
    await engine.update(adapters.version(1, engine=engine.name))
    manifest = adapters.version(8 if engine.name == "vllm" else 9, engine=engine.name)
    file = Path(manifest.path) / "adapter_model.safetensors"
    file.write_bytes(file.read_bytes()[:-4] + b"abcd")
    with pytest.raises(UpdateRejected, match=r"adapter_model\.safetensors: want sha256"):
        await engine.update(manifest)
    (completion,) = await completions(engine, [prompt_ids(1)])
    assert set(unpack_int32(completion.versions)) == {1}
