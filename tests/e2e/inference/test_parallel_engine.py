"""One replica on several devices: layers are split over processes, here over the cores of a CPU."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from services.contracts.arrays import unpack_int32
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.contracts.vllm_options import VllmOptions
from services.inference.probe import wrong_weights
from services.inference.vllm_engine import VllmEngine, VllmSettings
from tests.e2e.inference.conftest import (
    Policies,
    assert_logprobs_agree,
    experts,
    group_members,
    packed,
    prompt_ids,
    tied,
    until_group_is_gone,
)

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(600), pytest.mark.vllm]

SAMPLING = Sampling(temperature=0.7, max_tokens=12, stop_token_ids=(1,))


@pytest_asyncio.fixture(scope="module", loop_scope="module", params=[tied, experts], ids=["dense", "experts"])
async def two(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, vllm_python: Path
) -> AsyncIterator[tuple[VllmEngine, Policies]]:
    policies = Policies(tmp_path_factory.mktemp("parallel"), build=request.param)
    engine = VllmEngine(
        VllmSettings(vllm_python, policies.data_dir, policies.data_dir / "vllm.log", stall_s=30.0, stop_s=5.0)
    )
    yield engine, policies
    await engine.stop()


def parallel(policies: Policies, number: int) -> PolicyManifest:
    return policies.version(number).model_copy(update={"vllm": VllmOptions(vllm_tensor_parallel_size=2)})


async def test_two_processes_serve_each_version_s_weights(two: tuple[VllmEngine, Policies]) -> None:
    engine, policies = two
    await engine.start(parallel(policies, 0))
    assert engine.pid is not None
    workers = [one for one in group_members(engine.pid) if "Worker" in " ".join(one.cmdline() or [one.name()])]
    assert len(workers) == 2, [one.cmdline() for one in group_members(engine.pid)]
    for number in (0, 1, 2):
        manifest = parallel(policies, number)
        if number:
            await engine.update(manifest)
        assert await wrong_weights(engine, manifest) is None
        prompts = [Prompt(packed(prompt_ids(seed)), seed) for seed in range(4)]
        async for rows in engine.generate(prompts, SAMPLING):
            for index, outcome in rows:
                assert isinstance(outcome, SampledTokens)
                assert set(unpack_int32(outcome.versions)) == {number}
                assert_logprobs_agree(policies, prompt_ids(index), outcome, 0.7)
    group = engine.pid
    await engine.stop()
    await until_group_is_gone(group)
