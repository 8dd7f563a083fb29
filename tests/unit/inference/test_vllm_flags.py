from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from services.inference.settings import Settings
from services.inference.vllm_flags import VllmLimits, environment, on_cuda, server_flags
from tests.unit.inference.policy_versions import any_manifest


def value(flags: list[str], name: str) -> str:
    return flags[flags.index(name) + 1]


def test_the_sampled_distribution_is_the_one_reported() -> None:
    for cuda in (False, True):
        flags = server_flags(any_manifest(0), VllmLimits(), cuda=cuda)
        assert value(flags, "--logprobs-mode") == "processed_logprobs"
        assert value(flags, "--generation-config") == "vllm"


def test_seeds_and_chunked_prefill_never_meet_on_a_cpu() -> None:
    flags = server_flags(any_manifest(0), VllmLimits(), cuda=False)
    assert "--no-enable-chunked-prefill" in flags
    longest = any_manifest(0).model_copy(update={"max_model_len": 9_000})
    assert int(value(server_flags(longest, VllmLimits(), cuda=False), "--max-num-batched-tokens")) >= 9_000


def test_a_gpu_gets_a_share_of_memory_and_compiles() -> None:
    flags = server_flags(any_manifest(0), VllmLimits(gpu_memory=0.5), cuda=True)
    assert value(flags, "--gpu-memory-utilization") == "0.5"
    assert not {"--enforce-eager", "--kv-cache-memory-bytes", "--block-size"} & set(flags)
    assert "TORCHDYNAMO_DISABLE" not in environment("key", any_manifest(0), VllmLimits(), cuda=True)


def test_the_server_gets_no_port_and_its_key_is_on_no_command_line() -> None:
    flags = server_flags(any_manifest(0), VllmLimits(), cuda=False)
    assert not {"--port", "--host", "--api-key"} & set(flags)
    assert environment("secret", any_manifest(0), VllmLimits(), cuda=False)["VLLM_API_KEY"] == "secret"


def test_the_client_and_not_the_server_ends_idle_connections() -> None:
    kept_s = int(environment("key", any_manifest(0), VllmLimits(), cuda=False)["VLLM_HTTP_TIMEOUT_KEEP_ALIVE"])
    assert kept_s > 100 * (httpx.Limits().keepalive_expiry or 0)


@pytest.mark.parametrize("deterministic", [False, True])
@pytest.mark.parametrize("cuda", [False, True])
def test_a_deterministic_job_samples_each_prompt_as_if_it_were_alone(cuda: bool, deterministic: bool) -> None:
    manifest = any_manifest(0).model_copy(update={"deterministic": deterministic})
    flags = server_flags(manifest, VllmLimits(), cuda=cuda)
    variables = environment("key", manifest, VllmLimits(), cuda=cuda)
    assert ("--no-enable-prefix-caching" in flags) == deterministic
    assert (value(flags, "--max-num-seqs") == "1") == (deterministic and not cuda)
    assert ("VLLM_BATCH_INVARIANT" in variables) == (deterministic and cuda)


@pytest.mark.parametrize(("device", "cuda"), [("cpu", False), ("cuda", True)])
def test_the_device_can_be_said(device: str, cuda: bool) -> None:
    assert on_cuda(device) is cuda


def test_a_missing_redis_address_stops_the_start() -> None:
    with pytest.raises(ValidationError, match="redis_url"):
        Settings(data_dir=Path("/data"))  # type: ignore[call-arg]


@pytest.mark.parametrize("name", ["", "a b", "../x", "{x}"])
def test_a_replica_s_name_is_plain(name: str) -> None:
    with pytest.raises(ValidationError, match="replica"):
        Settings(redis_url="redis://x", data_dir=Path("/data"), replica=name)
