"""`python -m verl.trainer.main_ppo` of verl-agent as a job."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, get_args

from gigpo.client.errors import BadInput
from gigpo.client.migration.script import Command
from gigpo.client.migration.swift import job_name
from gigpo.client.migration.translation import Translation, no_folder, number_of, typed
from services.contracts.algorithm import Algorithm
from services.contracts.foreign import SOURCES
from services.contracts.job import TrackerName

SOURCE = SOURCES["verl-agent"]
_ACTOR, _ROLLOUT, _MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
LORA_ALPHA = 16
"""verl's default."""
_DIRECT = {
    "algorithm.adv_estimator": "advantage_estimator",
    "algorithm.gamma": "gamma",
    "algorithm.gigpo.step_advantage_w": "gigpo_step_advantage_weight",
    "algorithm.filter_groups.enable": "dynamic_sample",
    "algorithm.filter_groups.max_num_gen_batches": "max_resample_times",
    "data.train_batch_size": "groups_per_batch",
    "data.val_batch_size": "eval_episodes",
    "data.max_prompt_length": "max_prompt_tokens",
    "data.max_response_length": "max_completion_length",
    "data.apply_chat_template_kwargs.enable_thinking": "chat_template_kwargs.enable_thinking",
    f"{_MODEL}.path": "model",
    f"{_MODEL}.enable_gradient_checkpointing": "gradient_checkpointing",
    f"{_ACTOR}.optim.lr": "learning_rate",
    f"{_ACTOR}.optim.weight_decay": "weight_decay",
    f"{_ACTOR}.optim.warmup_style": "lr_scheduler_type",
    f"{_ACTOR}.optim.min_lr_ratio": "lr_end_ratio",
    f"{_ACTOR}.ppo_epochs": "num_iterations",
    f"{_ACTOR}.ppo_mini_update_num": "minibatches",
    f"{_ACTOR}.ppo_max_token_len_per_gpu": "microbatch_tokens",
    f"{_ACTOR}.grad_clip": "max_grad_norm",
    f"{_ACTOR}.clip_ratio": "epsilon",
    f"{_ACTOR}.clip_ratio_low": "epsilon",
    f"{_ACTOR}.clip_ratio_high": "epsilon_high",
    f"{_ACTOR}.entropy_coeff": "entropy_coef",
    f"{_ROLLOUT}.temperature": "temperature",
    f"{_ROLLOUT}.top_p": "top_p",
    f"{_ROLLOUT}.tensor_model_parallel_size": "vllm_tensor_parallel_size",
    f"{_ROLLOUT}.gpu_memory_utilization": "vllm_gpu_memory_utilization",
    f"{_ROLLOUT}.max_num_seqs": "vllm_max_num_seqs",
    f"{_ROLLOUT}.max_model_len": "vllm_max_model_len",
    f"{_ROLLOUT}.max_num_batched_tokens": "vllm_engine_kwargs.max_num_batched_tokens",
    "env.seed": "seed",
    "env.max_steps": "max_turns",
    "env.history_length": "history_length",
    "env.rollout.n": "num_generations",
    "trainer.total_epochs": "total_batches",
    "trainer.total_training_steps": "total_batches",
    "trainer.max_actor_ckpt_to_keep": "checkpoint_keep",
    "trainer.project_name": "tracking_project",
}
"""Key -> ours, where the value means the same."""


class _World(NamedTuple):
    environment: str
    kwargs: dict[str, object]
    eval_split: str
    comment: str


_WORLDS = {
    "alfworld": _World("alfworld", {"receptacles": "all", "objects": "all"}, "valid_seen",
                       "alfworld_real is the original engine, where its extra is installed"),
    "webshop": _World("webshop", {}, "test", ""),
    "sokoban": _World("sokoban", {}, "test", "rooms in text"),
    "search": _World("search_qa", {}, "test", "with a corpus of its own"),
}  # fmt: skip
"""Beginning of env.env_name, in small letters -> ours."""


def begins(words: list[str]) -> int | None:
    """The index at which the arguments of `main_ppo` begin, if this is it."""
    for i, word in enumerate(words):
        if re.search(r"(^|[./])main_ppo(\.py)?$", word):
            return i + 1
    return None


def translated(command: Command, folder: Path) -> Translation:
    """The job that the command means here. `folder` is not read: its scripts name no files of ours."""
    job, given = Translation(SOURCE), dict[str, str]()
    for word in command.words:
        key, equals, value = word.partition("=")
        if equals:
            given[key.lstrip("+~")] = value
        else:
            job.left.append((word, "want KEY=VALUE"))
    for key, value in given.items():
        written = f"{key}={value}"
        if key in _DIRECT:
            job.put(_DIRECT[key], typed(value), written)
        elif key in _SPECIAL:
            _SPECIAL[key](job, value, written)
        elif key not in _READ_TOGETHER:
            job.leave(written, key)
    _require_estimator(job, given)
    _algorithm(job, given)
    _tuner(job, given)
    _task(job, given)
    job.with_defaults()
    job.valid()
    return job


def _require_estimator(job: Translation, given: dict[str, str]) -> None:
    """Raises BadInput: a job with another estimator would train something that nobody asked for."""
    estimators = get_args(Algorithm.model_fields["advantage_estimator"].annotation)
    name, known = given.get("algorithm.adv_estimator"), ", ".join(estimators)
    if name is None:
        job.put("advantage_estimator", "grpo", "")
        job.settle("advantage_estimator", f"verl's default is gae, which is not trained here; want one of {known}")
    elif name not in estimators:
        raise BadInput(f"algorithm.adv_estimator={name}: want one of {known}; {name} is not trained here")


def _tuner(job: Translation, given: dict[str, str]) -> None:
    rank, alpha, modules = (given.get(f"{_MODEL}.{name}") for name in ("lora_rank", "lora_alpha", "target_modules"))
    if rank in (None, "", "0"):
        return
    job.put("tuner_type", "lora", f"{_MODEL}.lora_rank={rank}")
    job.put("lora_rank", typed(rank), f"{_MODEL}.lora_rank={rank}")
    if alpha:
        job.put("lora_alpha", typed(alpha), f"{_MODEL}.lora_alpha={alpha}")
    else:
        job.keep("lora_alpha", LORA_ALPHA, "verl's default; ours is 32")
    if modules:
        job.put("target_modules", typed(modules), f"{_MODEL}.target_modules={modules}")


def _algorithm(job: Translation, given: dict[str, str]) -> None:
    kl = given.get(f"{_ACTOR}.use_kl_loss", "False") == "True"
    if given.get("algorithm.use_kl_in_reward") == "True":
        coefficient = _number(given, "algorithm.kl_ctrl.kl_coef", "0.001")
        job.put("kl_in_reward", True, "algorithm.use_kl_in_reward=True")
        job.put("beta", coefficient, f"algorithm.kl_ctrl.kl_coef={coefficient:g}")
    else:
        coefficient = _number(given, f"{_ACTOR}.kl_loss_coef", "0.001") if kl else 0.0
        job.keep("kl_in_reward", False, "algorithm.use_kl_in_reward is False by default")
        job.put("beta", coefficient, f"use_kl_loss={kl}, kl_loss_coef={coefficient:g}" if kl else "use_kl_loss=False")
    kind = {"kl": "k1", "k1": "k1", "mse": "k2", "k2": "k2", "low_var_kl": "k3", "k3": "k3"}.get(
        given.get(f"{_ACTOR}.kl_loss_type", "")
    )
    if kind is not None and kl:
        job.put("kl_estimator", kind, f"kl_loss_type={given[f'{_ACTOR}.kl_loss_type']}")
    used = given.get(f"{_ACTOR}.use_invalid_action_penalty", "True") == "True"
    penalty = typed(given.get(f"{_ACTOR}.invalid_action_penalty_coef", "0.1")) if used else 0.0
    job.put(
        "invalid_action_penalty", penalty, "invalid_action_penalty_coef" if used else "use_invalid_action_penalty=False"
    )
    if given.get("algorithm.gigpo.enable_similarity") == "True":
        threshold = typed(given.get("algorithm.gigpo.similarity_thresh", "0.95"))
        job.put("anchor_similarity", threshold, f"algorithm.gigpo.similarity_thresh={threshold}")
    if given.get("algorithm.adv_estimator", "gae") not in ("gigpo", "hgpo", "graphgpo"):
        by_std = given.get("algorithm.norm_adv_by_std_in_grpo", "True") == "True"
        job.put("norm", "mean_std" if by_std else "mean", f"norm_adv_by_std_in_grpo={by_std}")
    else:
        job.keep("norm", "mean", "algorithm.gigpo.mode is mean_norm by default")
    ratio = given.get(f"{_ACTOR}.optim.lr_warmup_steps_ratio")
    if ratio is not None:
        total = job.number("total_batches", 30, least=0)
        batches = round(_number(given, f"{_ACTOR}.optim.lr_warmup_steps_ratio", ratio) * total)
        job.put("warmup_batches", batches, f"lr_warmup_steps_ratio={ratio} of {total:g} batches")
    job.put("max_staleness", 0, "verl-agent samples with the newest policy")


def _number(given: dict[str, str], key: str, default: str) -> float:
    text = given.get(key, default)
    return number_of(f"{key}={text}", text)


def _task(job: Translation, given: dict[str, str]) -> None:
    if "model" not in job.settings or job.settings["model"].value is None:
        job.put("model", "/path/to/model", "")
        job.settle("model", "a folder in Hugging Face format; the script names none")
    elif not Path(str(job.settings["model"].value)).expanduser().is_dir():
        name = job.settings["model"].value
        job.settle("model", no_folder(name))
    name = given.get("env.env_name", "alfworld/AlfredTWEnv")
    world = next((world for beginning, world in _WORLDS.items() if name.lower().startswith(beginning)), None)
    if world is None:
        job.put("environment", name, "")
        job.settle("environment", f"an environment of this platform for {name} (`gigpo env list`, `gigpo env new`)")
        return
    job.put("environment", world.environment, f"env.env_name={name}" + (f"; {world.comment}" if world.comment else ""))
    kwargs = dict(world.kwargs)
    if world.environment == "sokoban":
        size, boxes = typed(given.get("env.sokoban.dim_room", "[6,6]")), typed(given.get("env.sokoban.num_boxes", "1"))
        kwargs |= {"size": size[:1] if isinstance(size, list) else [size], "boxes": [boxes]}
    if world.environment == "search_qa" and "env.search.topk" in given:
        kwargs["top_k"] = typed(given["env.search.topk"])
    if kwargs:
        job.put("environment_kwargs", kwargs, "as verl-agent has it")
    split = {"eval_in_distribution": "valid_seen", "eval_out_of_distribution": "valid_unseen"}.get(
        given.get("env.alfworld.eval_dataset", ""), world.eval_split
    )
    job.put("eval_split", split, given.get("env.alfworld.eval_dataset", "held-out tasks"))


def _every(key: str, never: str) -> Callable[[Translation, str, str], None]:
    def put(job: Translation, value: str, written: str) -> None:
        count = typed(value)
        if isinstance(count, int) and count > 0:
            job.put(key, count, written)
        else:
            job.left.append((written, never))

    return put


def _trackers(job: Translation, value: str, written: str) -> None:
    names = re.findall(r"\w+", value)
    known = get_args(TrackerName)
    job.put("trackers", [name for name in names if name in known], written)
    if others := [name for name in names if name not in (*known, "console", "tensorboard")]:
        job.left.append((f"trainer.logger {' '.join(others)}", f"want some of {', '.join(known)}"))


def _mode(job: Translation, value: str, written: str) -> None:
    job.put("norm", {"mean_norm": "mean", "mean_std_norm": "mean_std"}.get(value, value), written)


def _engine_option(default: bool) -> Callable[[Translation, str, str], None]:
    """Puts an option of vLLM's own that is not its `default`."""

    def put(job: Translation, value: str, written: str) -> None:
        if typed(value) is default:
            job.left.append((written, "it is vLLM's default"))
        else:
            name = written.partition("=")[0].rpartition(".")[2]
            job.put(f"vllm_engine_kwargs.{name}", typed(value), written)

    return put


def _aggregation(job: Translation, value: str, written: str) -> None:
    kinds = {"token-mean": "bnpo", "seq-mean-token-mean": "grpo", "seq-mean-token-sum": "dr_grpo"}
    job.put("loss_type", kinds.get(value, value), written)


def _loss(job: Translation, value: str, written: str) -> None:
    if value == "gspo":
        job.put("importance_sampling_level", "sequence", written)
    elif value != "vanilla":
        job.left.append((written, "want one of --loss_type"))


def _engine(job: Translation, value: str, written: str) -> None:
    if value in ("vllm", "hf"):
        job.put("engine", {"hf": "transformers"}.get(value, value), written)
    else:
        job.left.append((written, "want vllm or transformers as the engine"))


_SPECIAL: dict[str, Callable[[Translation, str, str], None]] = {
    "trainer.save_freq": _every(
        "checkpoint_every", "a job always writes checkpoints, every --checkpoint_every batches"
    ),
    "trainer.test_freq": _every("eval_every", "evaluations run before and after training"),
    "trainer.logger": _trackers,
    "trainer.experiment_name": lambda job, value, written: job.put("name", job_name(value), written),
    "algorithm.gigpo.mode": _mode,
    f"{_ACTOR}.loss_agg_mode": _aggregation,
    f"{_ACTOR}.policy_loss.loss_mode": _loss,
    f"{_ROLLOUT}.name": _engine,
    f"{_ROLLOUT}.top_k": lambda job, value, written: job.put("top_k", 0 if value == "-1" else typed(value), written),
    f"{_ROLLOUT}.enforce_eager": _engine_option(False),
    f"{_ROLLOUT}.enable_chunked_prefill": _engine_option(True),
}
_READ_TOGETHER = {
    "algorithm.use_kl_in_reward", "algorithm.kl_ctrl.kl_coef", f"{_ACTOR}.use_kl_loss",
    f"{_ACTOR}.kl_loss_coef", f"{_ACTOR}.kl_loss_type", f"{_ACTOR}.use_invalid_action_penalty",
    f"{_ACTOR}.invalid_action_penalty_coef", "algorithm.gigpo.enable_similarity", "algorithm.gigpo.similarity_thresh",
    "algorithm.norm_adv_by_std_in_grpo", f"{_ACTOR}.optim.lr_warmup_steps_ratio", "env.env_name",
    f"{_MODEL}.lora_rank", f"{_MODEL}.lora_alpha", f"{_MODEL}.target_modules",
    "env.alfworld.eval_dataset", "env.sokoban.dim_room", "env.sokoban.num_boxes", "env.search.topk",
}  # fmt: skip
