"""Settings of verl-agent and ms-swift one by one: what each becomes, and what is not a number."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gigpo.client.errors import BadInput
from gigpo.client.migration import job_file_from
from tests.unit.client.fake_api import Gigpo
from tests.unit.client.test_client_migration import translated

ACTOR, ROLLOUT = "actor_rollout_ref.actor", "actor_rollout_ref.rollout"


def of_verl(tmp_path: Path, *settings: str) -> tuple[str, dict[str, Any]]:
    """The job file of a script with these settings, and its document."""
    always = ("algorithm.adv_estimator=gigpo", "actor_rollout_ref.model.path=MODEL_FOLDER")
    return translated(tmp_path, "verl-agent", " ".join(["python3 -m verl.trainer.main_ppo", *always, *settings]))


@pytest.mark.parametrize(
    ("settings", "section", "wanted"),
    [
        ("algorithm.use_kl_in_reward=True", "algorithm", {"kl_in_reward": True, "beta": 0.001}),
        ("algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=0.5", "algorithm", {"beta": 0.5}),
        (f"{ACTOR}.use_kl_loss=True {ACTOR}.kl_loss_type=mse", "algorithm", {"beta": 0.001, "kl_estimator": "k2"}),
        (f"{ACTOR}.kl_loss_coef=0.5", "algorithm", {"beta": 0.0}),
        (f"{ACTOR}.use_invalid_action_penalty=False", "algorithm", {"invalid_action_penalty": 0.0}),
        ("algorithm.gigpo.enable_similarity=True", "algorithm", {"anchor_similarity": 0.95}),
        (f"{ACTOR}.loss_agg_mode=seq-mean-token-sum", "algorithm", {"loss_type": "dr_grpo"}),
        (f"{ACTOR}.policy_loss.loss_mode=gspo", "algorithm", {"importance_sampling_level": "sequence"}),
        ("algorithm.adv_estimator=grpo", "algorithm", {"norm": "mean_std"}),
        ("algorithm.adv_estimator=grpo algorithm.norm_adv_by_std_in_grpo=False", "algorithm", {"norm": "mean"}),
        ("actor_rollout_ref.rollout.name=hf", "inference", {"engine": "transformers"}),
        (f"trainer.total_epochs=40 {ACTOR}.optim.lr_warmup_steps_ratio=0.1", "training", {"warmup_batches": 4}),
        (
            "+data.apply_chat_template_kwargs.enable_thinking=False",
            "environment",
            {"chat_template_kwargs": {"enable_thinking": False}},
        ),
        ("trainer.save_freq=7", "checkpoint", {"checkpoint_every": 7}),
        ("trainer.logger=[console,swanlab,mlflow]", "tracking", {"trackers": ["mlflow"]}),
        (
            "env.env_name=Sokoban env.sokoban.dim_room=[7,7] env.sokoban.num_boxes=2",
            "environment",
            {"environment": "sokoban", "environment_kwargs": {"size": [7], "boxes": [2]}},
        ),
        (
            "env.env_name=search env.search.topk=3",
            "environment",
            {"environment": "search_qa", "environment_kwargs": {"top_k": 3}},
        ),
        ("env.alfworld.eval_dataset=eval_out_of_distribution", "environment", {"eval_split": "valid_unseen"}),
        (
            f"{ROLLOUT}.tensor_model_parallel_size=2 {ROLLOUT}.gpu_memory_utilization=0.6 {ROLLOUT}.max_num_seqs=64",
            "inference",
            {"vllm_tensor_parallel_size": 2, "vllm_gpu_memory_utilization": 0.6, "vllm_max_num_seqs": 64},
        ),
        (
            f"{ROLLOUT}.enforce_eager=True {ROLLOUT}.enable_chunked_prefill=False "
            f"{ROLLOUT}.max_num_batched_tokens=8192 {ROLLOUT}.max_model_len=8192",
            "inference",
            {
                "vllm_max_model_len": 8192,
                "vllm_engine_kwargs": {
                    "enforce_eager": True,
                    "enable_chunked_prefill": False,
                    "max_num_batched_tokens": 8192,
                },
            },
        ),
    ],
)
def test_a_setting_of_verl_agent_has_its_effect(
    tmp_path: Path, settings: str, section: str, wanted: dict[str, Any]
) -> None:
    _, job = of_verl(tmp_path, *settings.split())
    assert {key: job[section].get(key) for key in wanted} == wanted


@pytest.mark.parametrize(
    ("setting", "why"),
    [
        (f"{ACTOR}.policy_loss.loss_mode=clip_cov", "want one of --loss_type"),
        ("actor_rollout_ref.rollout.name=sglang", "want vllm or transformers as the engine"),
        ("trainer.test_freq=-1", "evaluations run before and after training"),
        ("stray", "want KEY=VALUE"),
        (f"{ROLLOUT}.enforce_eager=False", "it is vLLM's default"),
        (f"{ROLLOUT}.enable_chunked_prefill=True", "it is vLLM's default"),
    ],
)
def test_a_setting_without_a_counterpart_is_told(tmp_path: Path, setting: str, why: str) -> None:
    assert f"#   {setting}: {why}\n" in of_verl(tmp_path, setting)[0]


@pytest.mark.parametrize(
    ("longest", "kept", "why"),
    [
        (4096, 4096, ""),
        (2048, None, "--vllm_max_model_len 2048: a prompt and its completion take up to 4,096 tokens here"),
    ],
)
def test_the_longest_sequence_of_ms_swift_is_kept_where_it_fits(
    tmp_path: Path, longest: int, kept: int | None, why: str
) -> None:
    script = f"{SWIFT}--max_length 2048 --max_completion_length 2048 --vllm_max_model_len {longest}"
    text, job = translated(tmp_path, "ms-swift", script)
    assert job.get("inference", {}).get("vllm_max_model_len") == kept
    assert why in text
    assert "unknown here" not in text


def test_a_world_that_is_not_here_is_to_settle(tmp_path: Path) -> None:
    text, job = of_verl(tmp_path, "env.env_name=appworld")
    assert job["environment"]["environment"] == "appworld"
    assert "environment: appworld  # TO SETTLE: an environment of this platform for appworld" in text


VERL, SWIFT = "python3 -m verl.trainer.main_ppo ", "swift rlhf --model m --reward_funcs format "


@pytest.mark.parametrize(
    ("trainer", "script", "said"),
    [
        ("verl-agent", VERL + "algorithm.use_kl_in_reward=True algorithm.kl_ctrl.kl_coef=auto",
         "algorithm.kl_ctrl.kl_coef=auto: want a number >= 0, got auto"),
        ("verl-agent", VERL + f"{ACTOR}.use_kl_loss=True {ACTOR}.kl_loss_coef=",
         f"{ACTOR}.kl_loss_coef=: want a number >= 0, got null"),
        ("verl-agent", VERL + f"{ACTOR}.optim.lr_warmup_steps_ratio=some",
         f"{ACTOR}.optim.lr_warmup_steps_ratio=some: want a number >= 0, got some"),
        ("verl-agent", VERL + f"trainer.total_epochs=ten {ACTOR}.optim.lr_warmup_steps_ratio=0.1",
         "trainer.total_epochs=ten: want a number >= 0, got ten"),
        ("verl-agent", VERL + f"trainer.total_epochs=.inf {ACTOR}.optim.lr_warmup_steps_ratio=0.1",
         "trainer.total_epochs=.inf: want a number >= 0, got inf"),
        ("ms-swift", SWIFT + "--per_device_train_batch_size 0",
         "--per_device_train_batch_size 0: want a number >= 1, got 0"),
        ("ms-swift", SWIFT + "--gradient_accumulation_steps auto",
         "--gradient_accumulation_steps auto: want a number >= 1, got auto"),
        ("ms-swift", SWIFT + "--steps_per_generation true",
         "--steps_per_generation true: want a number >= 1, got true"),
        ("ms-swift", SWIFT + "--num_generations 0", "--num_generations 0: want a number >= 1, got 0"),
        ("ms-swift", SWIFT + "--num_iterations many", "--num_iterations many: want a number >= 1, got many"),
        ("ms-swift", SWIFT + "--dataset d#100 --num_train_epochs all",
         "--num_train_epochs: want a number >= 0, got all"),
        ("ms-swift", SWIFT + "--warmup_ratio x", "the warm-up ratio: want a number >= 0, got x"),
    ],
)  # fmt: skip
def test_what_has_to_be_a_number_and_is_none_is_refused_in_one_sentence(
    gigpo: Gigpo, tmp_path: Path, trainer: str, script: str, said: str
) -> None:
    (tmp_path / "run.sh").write_text(script + "\n")
    with pytest.raises(BadInput):
        job_file_from(trainer, tmp_path / "run.sh")
    done = gigpo("train", "--from", trainer, "run.sh")
    assert (done.code, done.out, done.err) == (2, "", f"gigpo: {said}\n")
