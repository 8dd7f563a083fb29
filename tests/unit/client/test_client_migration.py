"""Other trainers' scripts: what each line becomes, and what a shell's habits do not hide."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from gigpo.client.document import checked, read_document
from gigpo.client.errors import BadInput
from gigpo.client.migration import job_file_from
from tests.unit.client.fake_api import FakeApi, Gigpo

SWIFT = """
# a run of ours
export MODEL=MODEL_FOLDER
NPROC_PER_NODE=4 \\
swift rlhf \\
    --rlhf_type grpo --model $MODEL \\
    --dataset 'team/sums#1000' team/more#600 \\
    --reward_funcs accuracy format --reward_weights 1 0.2 \\
    --use_vllm true --vllm_mode colocate --torch_dtype bfloat16 \\
    --per_device_train_batch_size 8 --gradient_accumulation_steps 2 --steps_per_generation 4 \\
    --num_generations 16 --num_train_epochs 2 --warmup_ratio 0.05 --learning-rate 2e-6 \\
    --max_length 1024 --max_completion_length=256 --save_steps 20 --save_total_limit 3 \\
    --system "think # then answer" --report_to tensorboard wandb --deepspeed zero2 \\
    --top_p 0.9 --stop_words "</answer>" 2>&1 | tee log.txt
swift rlhf --model not-this-one
"""
VERL = """
set -x
ENGINE=${1:-vllm}
group_size=8  # as in the paper
mode="mean_std_norm"
python3 -m verl.trainer.main_ppo \\
    algorithm.adv_estimator=gigpo \\
    data.train_batch_size=16 data.val_batch_size=128 \\
    data.max_prompt_length=2048 data.max_response_length=512 \\
    actor_rollout_ref.model.path=MODEL_FOLDER \\
    actor_rollout_ref.actor.optim.lr=1e-6 actor_rollout_ref.actor.use_kl_loss=True \\
    actor_rollout_ref.actor.kl_loss_coef=0.01 actor_rollout_ref.actor.kl_loss_type=low_var_kl \\
    actor_rollout_ref.rollout.name=$ENGINE actor_rollout_ref.rollout.val_kwargs.temperature=0.4 \\
    actor_rollout_ref.rollout.top_k=-1 actor_rollout_ref.rollout.top_p=1.0 \\
    +actor_rollout_ref.actor.invalid_action_penalty_coef=0.2 \\
    algorithm.gamma=0.9 algorithm.gigpo.step_advantage_w=0.5 algorithm.gigpo.mode=$mode \\
    env.env_name=alfworld/AlfredTWEnv env.seed=7 env.max_steps=30 env.rollout.n=$group_size \\
    trainer.logger=['console','wandb'] trainer.project_name='lab' trainer.experiment_name='GiGPO Qwen2.5_1.5b' \\
    trainer.n_gpus_per_node=2 trainer.save_freq=-1 trainer.test_freq=5 trainer.total_epochs=150 $@
"""


def translated(tmp_path: Path, trainer: str, script: str) -> tuple[str, dict[str, Any]]:
    """The job file of a script, and its document."""
    model, path = tmp_path / "model", tmp_path / "run.sh"
    model.mkdir(exist_ok=True)
    path.write_text(script.replace("MODEL_FOLDER", str(model)))
    text, _ = job_file_from(trainer, path)
    (tmp_path / "job.yaml").write_text(text)
    return text, read_document(tmp_path / "job.yaml")


def test_a_script_of_ms_swift_is_the_job_that_it_describes(tmp_path: Path) -> None:
    text, job = translated(tmp_path, "ms-swift", SWIFT)
    lora = {"tuner_type": "lora", "lora_dropout": 0.05}
    assert job["model"] == {"model": str(tmp_path / "model"), "torch_dtype": "bfloat16", **lora}
    assert job["environment"] == {
        "use_gym_env": False,
        "environment_kwargs": {"data": "sums"},
        "max_prompt_tokens": 1024,
        "system": "think # then answer",
    }
    assert job["rewards"] == {"reward_funcs": ["accuracy", "format"], "reward_weights": [1.0, 0.2]}
    # 4 processes x 8 completions x 4 steps = 128 completions = 8 groups of 16, in 4 / 2 optimizer steps
    assert (job["rollout"]["groups_per_batch"], job["training"]["minibatches"]) == (8, 2)
    assert (job["training"]["total_batches"], job["training"]["warmup_batches"]) == (2 * 1600 // 8, 20)
    assert job["checkpoint"] == {"checkpoint_every": 10, "checkpoint_keep": 3}
    assert (job["tracking"], job["inference"]) == ({"trackers": ["wandb"]}, {"engine": "vllm"})
    assert job["rollout"]["max_staleness"] == 0
    for line in (
        "learning_rate: 2.0e-06  # --learning_rate 2e-6",
        "temperature: 0.9  # ms-swift's default; ours is 1",
        "lr_scheduler_type: cosine  # ms-swift's default; ours is linear",
        "rollout_importance_sampling_mode: null  # ms-swift's default; ours is token_truncate",
        "#   --deepspeed zero2: the operator decides on devices:",
        "top_k: 50  # ms-swift's default beside --top_p 0.9; ours is all tokens",
        "top_p: 0.9  # --top_p 0.9",
        "stop_words: [</answer>]",
        "environment_kwargs: {data: sums}  # TO SETTLE: sums/train.jsonl from --dataset team/sums#1000 team/more#600,",
    ):
        assert line in text, line
    assert "not-this-one" not in text
    assert checked(job).algorithm.loss_type == "grpo"


def test_a_script_of_verl_agent_is_the_job_that_it_describes(tmp_path: Path) -> None:
    text, job = translated(tmp_path, "verl-agent", VERL)
    spec = checked(job)
    assert (spec.name, spec.environment.environment, spec.environment.eval_split) == (
        "gigpo-qwen2.5_1.5b", "alfworld", "valid_seen"
    )  # fmt: skip
    assert job["algorithm"] | {"loss_type": "bnpo"} == {
        "advantage_estimator": "gigpo", "gigpo_step_advantage_weight": 0.5, "gamma": 0.9, "norm": "mean_std",
        "invalid_action_penalty": 0.2, "beta": 0.01, "kl_estimator": "k3", "entropy_coef": 0.001, "loss_type": "bnpo",
        "kl_in_reward": False,
        "rollout_importance_sampling_mode": None,
    }  # fmt: skip
    assert job["rollout"] == {
        "num_generations": 8, "groups_per_batch": 16, "max_completion_length": 512, "max_staleness": 0,
        "top_k": 0, "top_p": 1.0,
    }  # fmt: skip
    assert (spec.training.total_batches, spec.evaluation.eval_every, spec.evaluation.eval_episodes) == (150, 5, 128)
    assert (spec.environment.max_turns, spec.environment.history_length, spec.training.seed) == (30, 2, 7)
    assert (spec.tracking.trackers, spec.tracking.tracking_project) == (["wandb"], "lab")
    for line in (
        "history_length: 2  # verl-agent's default; ours is 0",
        "#   actor_rollout_ref.rollout.val_kwargs.temperature=0.4: evaluations sample as training does",
        "#   trainer.n_gpus_per_node=2: the operator decides on devices:",
        "#   trainer.save_freq=-1: a job always writes checkpoints",
    ):
        assert line in text, line


@pytest.mark.parametrize(
    ("added", "section", "key", "value"),
    [
        ("--loss_type sapo --tau_pos 1.5 --epsilon 0.1", "algorithm", "tau_pos", 1.5),
        ("--loss_type grpo --tau_pos 1.5", "algorithm", "tau_pos", None),
        ("--advantage_estimator rloo", "algorithm", "scale_rewards", None),
        ("--scale_rewards false", "algorithm", "scale_rewards", "none"),
        ("--dynamic_sample", "algorithm", "dynamic_sample", True),
        ("--async_generate true", "rollout", "max_staleness", 1),
        ("--use_vllm false", "inference", "engine", "transformers"),
        ("--max_steps 100", "training", "total_batches", 50),
        ("--torch_dtype float16", "model", "torch_dtype", "bfloat16"),
        ("--gym_env grid --max_turns 9", "environment", "max_turns", 9),
        ("--reward_funcs my_own accuracy --reward_weights 2 3", "rewards", "reward_weights", [3.0]),
        ("--enable_thinking false", "environment", "chat_template_kwargs", {"enable_thinking": False}),
    ],
)
def test_a_flag_of_ms_swift_has_its_effect(tmp_path: Path, added: str, section: str, key: str, value: object) -> None:
    base = "swift rlhf --model MODEL_FOLDER --num_generations 4 --per_device_train_batch_size 8"
    steps = " --gradient_accumulation_steps 1 --steps_per_generation 2 --reward_funcs format --dataset d "
    _, job = translated(tmp_path, "ms-swift", base + steps + added)
    checked(job)
    assert job[section].get(key) == value if isinstance(job.get(section), dict) else value is None


@pytest.mark.parametrize(
    ("flags", "tuner", "rate", "marked"),
    [
        ("--tuner_type lora --learning_rate 2e-4", "lora", 2e-4, False),
        ("--tuner_type lora", "lora", 1e-4, False),
        ("--train_type lora", "lora", 1e-4, False),
        ("", "lora", 1e-4, False),  # adapters are ms-swift's default
        ("--train_type adalora", "lora", 1e-4, True),
        ("--tuner_type full", "full", 1e-5, False),
        ("--tuner_type full --learning_rate 1e-6", "full", 1e-6, False),
    ],
)
def test_what_ms_swift_trains_is_trained_with_its_rate(
    tmp_path: Path, flags: str, tuner: str, rate: float, marked: bool
) -> None:
    text, job = translated(tmp_path, "ms-swift", f"swift rlhf --model MODEL_FOLDER --reward_funcs format {flags}\n")
    checked(job)
    assert (job["model"]["tuner_type"], job["training"]["learning_rate"]) == (tuner, rate)
    assert ("TO SETTLE: --train_type adalora: want full or lora" in text) == marked
    assert job["model"].get("lora_dropout") == (0.05 if tuner == "lora" else None)


def test_adapters_of_ms_swift_keep_their_shape(tmp_path: Path) -> None:
    script = "swift rlhf --model MODEL_FOLDER --reward_funcs format --tuner_type lora --lora_rank 16 --lora_alpha 64 "
    _, job = translated(tmp_path, "ms-swift", script + "--target_modules q_proj v_proj --lora_dropout 0\n")
    checked(job)
    wanted = {"lora_rank": 16, "lora_alpha": 64, "target_modules": ["q_proj", "v_proj"], "lora_dropout": 0}
    assert {key: job["model"][key] for key in wanted} == wanted


def test_adapters_of_verl_keep_their_shape(tmp_path: Path) -> None:
    script = "python -m verl.trainer.main_ppo algorithm.adv_estimator=grpo actor_rollout_ref.model.path=MODEL_FOLDER "
    script += "actor_rollout_ref.actor.optim.lr=3e-5 actor_rollout_ref.model.lora_rank={}\n"
    _, job = translated(tmp_path, "verl-agent", script.format(32))
    assert (job["model"]["tuner_type"], job["model"]["lora_rank"], job["model"]["lora_alpha"]) == ("lora", 32, 16)
    assert "tuner_type" not in translated(tmp_path, "verl-agent", script.format(0))[1]["model"]
    without = script.format(0).replace("algorithm.adv_estimator=grpo", "")
    assert (
        "advantage_estimator: grpo  # TO SETTLE: verl's default is gae"
        in translated(tmp_path, "verl-agent", without)[0]
    )


def test_a_file_of_prompts_that_the_script_names_is_taken_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text('{"prompt": "a", "solution": "b"}\n')
    base = "swift rlhf --model MODEL_FOLDER --reward_funcs accuracy --dataset "
    text, job = translated(tmp_path, "ms-swift", f"{base} mine.jsonl#500\n")
    assert job["environment"]["environment_kwargs"] == {"data": str(tmp_path / "mine.jsonl")}
    assert "TO SETTLE" not in text
    text, _ = translated(tmp_path, "ms-swift", f"{base} team/sums\n")
    assert "beside the job file as `data: ./sums`, or one file as `data: ./FILE.jsonl`" in text
    assert "ENV_SERVICE_DATA_ROOT" not in text


def test_what_has_no_effect_here_is_told_with_the_reason(tmp_path: Path) -> None:
    text, _ = translated(tmp_path, "ms-swift", "swift rlhf --model MODEL_FOLDER --reward_funcs format --tau_pos 1.5")
    assert "#   tau_pos 1.5: want loss_type: sapo with it, got loss_type: grpo\n" in text


@pytest.mark.parametrize(
    ("script", "trainer", "said"),
    [
        ("echo hello\n", "ms-swift", "no command with `swift rlhf` or `megatron rlhf` in it"),
        ("swift rlhf --model 'a\n", "ms-swift", "want a shell script, a quote in it is never closed"),
        ("swift sft --model a\n", "ms-swift", "no command with"),
        ("python -m verl.trainer.sft a=b\n", "verl-agent", "no command with `verl.trainer.main_ppo`"),
        ("swift rlhf --rlhf_type dpo --model a\n", "ms-swift", "--rlhf_type dpo: want grpo, dpo is not trained here"),
        ("megatron rlhf --rlhf_type=kto --model a\n", "ms-swift", "--rlhf_type kto: want grpo"),
        (
            "python -m verl.trainer.main_ppo algorithm.adv_estimator=gae\n",
            "verl-agent",
            "adv_estimator=gae: want one of",
        ),
        ("", "openrlhf", "--from: want one of ms-swift, verl-agent, got 'openrlhf'"),
        (b"\xff\xfe", "ms-swift", "want a shell script, byte 0 is not text"),
    ],
)
def test_what_is_no_such_script_is_refused_in_one_sentence(
    tmp_path: Path, script: str | bytes, trainer: str, said: str
) -> None:
    path = tmp_path / "run.sh"
    path.write_bytes(script if isinstance(script, bytes) else script.encode())
    with pytest.raises(BadInput, match=f"^[^\n]*{said}[^\n]*$"):
        job_file_from(trainer, path)


def test_the_job_file_passes_the_dry_run_and_says_what_is_left(fake_api: FakeApi, gigpo: Gigpo, tmp_path: Path) -> None:
    fake_api.answers["POST /v1/jobs"] = {"spec": {}, "estimates": {}, "warnings": []}
    (tmp_path / "run.sh").write_text("swift rlhf --model Qwen/Qwen2.5-3B --gym_env no_such_world --max_turns 3\n")
    shown = gigpo("train", "--from", "ms-swift", "run.sh")
    assert (shown.code, fake_api.requests) == (0, [])
    assert [line.partition(":")[2].split(":")[0].strip() for line in shown.err.splitlines()] == ["model", "environment"]
    assert yaml.safe_load(shown.out)["environment"]["environment"] == "no_such_world"
    (tmp_path / "job.yaml").write_text(shown.out)
    assert gigpo("train", "job.yaml", "--dry-run").code == 0
    assert gigpo("train", "--from", "ms-swift", "run.sh", "--dry-run", "--environment", "grid").code == 0
    assert fake_api.body()["environment"] == {"environment": "grid", "max_turns": 3, "max_prompt_tokens": 2048}
    assert gigpo("train", "--from", "ms-swift", "run.sh", "--seed", "3").err == (
        "gigpo: --seed: --from prints a job file alone; give it with that file\n"
    )
    assert gigpo("train", "--from", "ms-swift").err == (
        "gigpo: --from ms-swift: want a shell script after it, or - for stdin\n"
    )
