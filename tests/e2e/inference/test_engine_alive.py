"""A slow engine may take as long as it needs; a frozen or killed one is found, at work or idle, and replaced."""

import asyncio
import os
import signal
import threading
from collections.abc import AsyncIterator
from pathlib import Path

import psutil
import pytest
import pytest_asyncio

from services.contracts.arrays import unpack_int32
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.inference.engine import EngineFailed
from services.inference.transformers_engine import TransformersEngine
from services.inference.vllm_engine import VllmEngine, VllmSettings
from services.inference.watch import Patience
from tests.e2e.inference.conftest import Policies, packed, prompt_ids

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(400)]

STALL_S = 2.0
LONG = Sampling(temperature=1.0, max_tokens=800, stop_token_ids=())
SHORT = Sampling(temperature=1.0, max_tokens=4, stop_token_ids=())


@pytest.fixture(scope="module")
def long_policies(tmp_path_factory: pytest.TempPathFactory) -> Policies:
    return Policies(tmp_path_factory.mktemp("long_policies"), max_model_len=2_048)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vllm(long_policies: Policies, vllm_python: Path) -> AsyncIterator[VllmEngine]:
    folder = long_policies.data_dir
    engine = VllmEngine(
        VllmSettings(python=vllm_python, data_dir=folder, log=folder / "vllm.log", stall_s=STALL_S, stop_s=1.0)
    )
    yield engine
    await engine.stop()


@pytest_asyncio.fixture(loop_scope="module")
async def transformers(long_policies: Policies) -> AsyncIterator[TransformersEngine]:
    engine = TransformersEngine(long_policies.data_dir, patience=Patience(stall_s=STALL_S))
    yield engine
    await engine.stop()


async def sampled(engine: VllmEngine | TransformersEngine, sampling: Sampling) -> list[int]:
    """How many tokens each of two prompts got."""
    prompts = [Prompt(packed(prompt_ids(seed)), seed) for seed in range(2)]
    found = {index: outcome async for rows in engine.generate(prompts, sampling) for index, outcome in rows}
    return [len(unpack_int32(found[n].response_ids)) for n in (0, 1) if isinstance(found[n], SampledTokens)]


@pytest.mark.vllm
async def test_a_reply_may_take_vllm_longer_than_its_limit(vllm: VllmEngine, long_policies: Policies) -> None:
    await vllm.start(long_policies.version(0))
    assert await sampled(vllm, LONG) == [800, 800]
    assert await vllm.healthy()


async def test_a_reply_may_take_transformers_longer_than_its_limit(
    transformers: TransformersEngine, long_policies: Policies
) -> None:
    await transformers.start(long_policies.version(0, engine="transformers"))
    assert await sampled(transformers, LONG) == [800, 800]
    assert await transformers.healthy()


@pytest.mark.vllm
async def test_a_vllm_that_freezes_idle_is_found_and_replaced(vllm: VllmEngine, long_policies: Policies) -> None:
    await vllm.start(long_policies.version(0))
    server = vllm.pid
    assert server is not None
    os.killpg(server, signal.SIGSTOP)
    while await vllm.healthy():
        await asyncio.sleep(0.05)
    await vllm.start(long_policies.version(0))
    assert vllm.pid != server
    assert await sampled(vllm, SHORT) == [4, 4]


@pytest.mark.vllm
@pytest.mark.parametrize("harm", [signal.SIGSTOP, signal.SIGKILL])
async def test_a_vllm_whose_engine_core_freezes_or_dies_at_work_is_found(
    vllm: VllmEngine, long_policies: Policies, harm: signal.Signals
) -> None:
    """Its HTTP loop lives on."""
    await vllm.start(long_policies.version(0))
    work = asyncio.create_task(sampled(vllm, LONG))
    await asyncio.sleep(0.5)
    for process in psutil.Process(vllm.pid).children(recursive=True):
        process.send_signal(harm)
    with pytest.raises(EngineFailed):
        await work
    while await vllm.healthy():
        await asyncio.sleep(0.05)


async def test_a_hung_transformers_engine_is_found_and_replaced(
    transformers: TransformersEngine, long_policies: Policies
) -> None:
    manifest = long_policies.version(0, engine="transformers")
    await transformers.start(manifest)
    begun, released = threading.Event(), threading.Event()
    work = asyncio.create_task(transformers._on_thread(lambda: begun.set() or released.wait()))
    await asyncio.to_thread(begun.wait)
    with pytest.raises(EngineFailed, match="no sign of life for 2 s"):
        await sampled(transformers, SHORT)
    assert not await transformers.healthy()
    with pytest.raises(EngineFailed):
        await work
    await transformers.stop()
    await transformers.start(manifest)
    assert await sampled(transformers, SHORT) == [4, 4]
    released.set()
