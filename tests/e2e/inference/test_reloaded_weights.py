"""A weight update gives every kind of layer what a start from the same files gives it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.contracts.arrays import unpack_int32
from services.inference.probe import wrong_weights
from services.inference.vllm_engine import VllmEngine, VllmSettings
from tests.e2e.inference.conftest import Policies, assert_logprobs_agree, experts, latent, prompt_ids, tied, untied
from tests.e2e.inference.test_engine_contract import completions

pytestmark = [pytest.mark.vllm, pytest.mark.asyncio]


@pytest.fixture(params=[experts, latent, untied, tied], ids=lambda build: build.__name__)
def policies(tmp_path: Path, request: pytest.FixtureRequest) -> Policies:
    return Policies(tmp_path, build=request.param)


@pytest_asyncio.fixture
async def engine(policies: Policies, vllm_python: Path) -> AsyncIterator[VllmEngine]:
    """A server that started with version 3, though the base holds other weights."""
    log = policies.data_dir / "vllm.log"
    engine = VllmEngine(VllmSettings(python=vllm_python, data_dir=policies.data_dir, log=log))
    policies.version(0)
    await engine.start(policies.version(3))
    yield engine
    await engine.stop()


async def test_logprobs_after_a_start_and_every_update_are_those_of_the_files(
    engine: VllmEngine, policies: Policies
) -> None:
    """Those of the start, the same again, then others, then the first ones."""
    for number in (None, 3, 3, 1, 2, 3):
        if number is not None:
            await engine.update(policies.version(number))
        number = 3 if number is None else number
        assert await wrong_weights(engine, policies.version(number)) is None
        prompts = [prompt_ids(seed, 5 + seed) for seed in range(6)]
        for prompt, completion in zip(prompts, await completions(engine, prompts), strict=True):
            assert set(unpack_int32(completion.versions)) == {number}
            assert_logprobs_agree(policies, prompt, completion, atol=1e-4)
