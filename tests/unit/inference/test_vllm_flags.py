import json
from pathlib import Path

import httpx
import pytest
from pydantic import ValidationError

from services.contracts.vllm_options import VllmOptions
from services.inference.settings import Settings
from services.inference.vllm_flags import VllmLimits, cores_of_each, environment, on_cuda, server_flags
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


def job_says(**options: object) -> list[str]:
    manifest = any_manifest(0).model_copy(update={"vllm": VllmOptions.model_validate(options)})
    return server_flags(manifest, VllmLimits(max_batch=7, gpu_memory=0.5), cuda=True)


def test_what_a_job_says_comes_before_what_the_installation_says() -> None:
    assert (value(job_says(), "--max-num-seqs"), value(job_says(), "--gpu-memory-utilization")) == ("7", "0.5")
    flags = job_says(vllm_max_num_seqs=64, vllm_gpu_memory_utilization=0.9, vllm_quantization="fp8")
    assert (value(flags, "--max-num-seqs"), value(flags, "--gpu-memory-utilization")) == ("64", "0.9")
    assert value(flags, "--quantization") == "fp8"
    assert "--no-enable-prefix-caching" in job_says(vllm_enable_prefix_caching=False)


def test_a_replica_may_take_several_devices() -> None:
    flags = job_says(vllm_tensor_parallel_size=4, vllm_pipeline_parallel_size=2)
    assert (value(flags, "--tensor-parallel-size"), value(flags, "--pipeline-parallel-size")) == ("4", "2")
    assert not {"--tensor-parallel-size", "--pipeline-parallel-size"} & set(job_says())


def test_on_a_cpu_each_process_of_a_replica_has_cores_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {2, 3, 5})
    assert cores_of_each(3, 1) == "2|3|5"
    assert cores_of_each(2, 2) == "2,3|2,5"
    manifest = any_manifest(0).model_copy(update={"vllm": VllmOptions(vllm_tensor_parallel_size=2)})
    assert environment("key", manifest, VllmLimits(), cuda=False)["VLLM_CPU_OMP_THREADS_BIND"] == "2|3"
    assert "VLLM_CPU_OMP_THREADS_BIND" not in environment("key", any_manifest(0), VllmLimits(), cuda=False)
    assert value(server_flags(manifest, VllmLimits(), cuda=False), "--distributed-executor-backend") == "mp"


def test_further_options_are_passed_on_and_take_the_place_of_ours() -> None:
    flags = job_says(
        vllm_engine_kwargs={
            "max_num_batched_tokens": 8_192,
            "enforce_eager": True,
            "enable_chunked_prefill": False,
            "speculative_config": {"method": "ngram"},
        }
    )
    assert flags.count("--max-num-batched-tokens") == 1
    assert value(flags, "--max-num-batched-tokens") == "8192"
    assert {"--enforce-eager", "--no-enable-chunked-prefill"} <= set(flags)
    assert value(flags, "--speculative-config") == '{"method": "ngram"}'


@pytest.mark.parametrize("name", ["api_key", "model", "trust_remote_code", "logprobs_mode", "max-model-len", "seed"])
def test_what_would_change_what_is_sampled_or_who_may_ask_is_not_passed_on(name: str) -> None:
    with pytest.raises(ValidationError, match=f"got {name}"):
        job_says(vllm_engine_kwargs={name: 1})


def test_an_engine_of_another_size_is_another_engine() -> None:
    other = any_manifest(1).model_copy(update={"vllm": VllmOptions(vllm_max_num_seqs=3)})
    assert any_manifest(0).same_start(any_manifest(1))
    assert not any_manifest(0).same_start(other)


def test_an_engine_over_several_machines_is_joined_by_ray() -> None:
    assert "--distributed-executor-backend" not in server_flags(any_manifest(0), VllmLimits(), cuda=True)
    flags = server_flags(any_manifest(0), VllmLimits(nodes=2), cuda=True)
    assert value(flags, "--distributed-executor-backend") == "ray"


def flags_for(folder: Path, *, cuda: bool, **config: object) -> list[str]:
    (folder / "config.json").write_text(json.dumps(config))
    return server_flags(any_manifest(0).model_copy(update={"base": str(folder)}), VllmLimits(), cuda=cuda)


@pytest.mark.parametrize("kind", ["deepseek_v3", "deepseek_v32", "glm_moe_dsa"])
def test_experts_are_chosen_as_transformers_chooses_them(tmp_path: Path, kind: str) -> None:
    sigmoid = {"scoring_func": "sigmoid", "topk_method": "noaux_tc"}
    for cuda in (False, True):
        assert json.loads(value(flags_for(tmp_path, cuda=cuda, model_type=kind), "--hf-overrides")) == sigmoid
        assert "--hf-overrides" not in flags_for(tmp_path, cuda=cuda, model_type=kind, **sigmoid)
        assert "--hf-overrides" not in flags_for(tmp_path, cuda=cuda, model_type="deepseek_v2")


def test_latent_attention_on_a_cpu_turns_every_head_s_query(tmp_path: Path) -> None:
    flags = flags_for(tmp_path, cuda=False, model_type="deepseek_v2", kv_lora_rank=512)
    assert json.loads(value(flags, "--compilation-config")) == {"custom_ops": ["-rotary_embedding"]}
    assert "--compilation-config" not in flags_for(tmp_path, cuda=True, model_type="deepseek_v2", kv_lora_rank=512)
    assert "--compilation-config" not in flags_for(tmp_path, cuda=False, model_type="llama")


@pytest.mark.parametrize(("guided", "most_kept"), [(False, 0), (True, 0), (False, 50), (True, 50)])
def test_processors_of_logits_are_loaded_where_prompts_need_them(guided: bool, most_kept: int) -> None:
    manifest = any_manifest(0).model_copy(update={"guided": guided, "most_kept": most_kept})
    flags = server_flags(manifest, VllmLimits(), cuda=False)
    assert ("gigpo_vllm.choices:Choices" in flags) == guided
    assert ("gigpo_vllm.truncation:Truncation" in flags) == bool(most_kept)
    assert flags.count("--logits-processors") == (guided or most_kept > 0)
    assert not most_kept or value(flags, "--max-logprobs") == "50"  # vLLM's own limit is 20
    assert manifest.same_start(any_manifest(0)) == (not guided and not most_kept)
