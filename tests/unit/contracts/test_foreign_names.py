"""Other trainers' names: each is ours, is taken, or has a reason."""

from __future__ import annotations

import pytest

from services.contracts.foreign import SOURCES, foreign_name, synonyms
from services.contracts.job import JobSpec, flags
from tests.unit.contracts.migrating_page import PAGE, tables

OURS = {*flags(), "dataset", "output"}
SWIFT_EXAMPLES = """
    rlhf_type dataloader_num_workers logging_steps tuner_type num_train_epochs vllm_mode save_steps max_length
    use_vllm per_device_train_batch_size gradient_accumulation_steps save_total_limit warmup_ratio dataset_num_proc
    load_from_cache_file eval_steps deepspeed log_completions vllm_max_model_len vllm_gpu_memory_utilization output_dir
    report_to external_plugins vllm_tensor_parallel_size sleep_level per_device_eval_batch_size split_dataset_ratio
    vllm_server_host vllm_server_port offload_optimizer offload_model lr micro_batch_size global_batch_size
    steps_per_generation multi_turn_scheduler lora_rank lora_alpha attn_impl target_modules top_p top_k
    save_only_model bf16 gym_env merge_lora reward_model gradient_checkpointing_kwargs loss_scale
    move_model_batches async_generate vllm_server_pass_dataset packing padding_free truncation_strategy max_steps
    log_entropy log_rollout_offpolicy_metrics router_replay_mode generation_batch_size sync_ref_model
""".split()  # noqa: SIM905
"""Flags of ms-swift's public GRPO scripts that are not ours."""
VERL_SCRIPTS = """
    algorithm.adv_estimator data.train_files data.val_files data.train_batch_size data.val_batch_size
    data.max_prompt_length data.max_response_length data.filter_overlong_prompts data.truncation data.return_raw_chat
    actor_rollout_ref.model.path actor_rollout_ref.actor.optim.lr actor_rollout_ref.model.use_remove_padding
    actor_rollout_ref.actor.ppo_mini_batch_size actor_rollout_ref.actor.ppo_micro_batch_size_per_gpu
    actor_rollout_ref.actor.use_kl_loss actor_rollout_ref.actor.kl_loss_coef actor_rollout_ref.actor.kl_loss_type
    actor_rollout_ref.rollout.val_kwargs.temperature actor_rollout_ref.rollout.val_kwargs.do_sample
    actor_rollout_ref.actor.use_invalid_action_penalty actor_rollout_ref.actor.invalid_action_penalty_coef
    algorithm.use_kl_in_reward algorithm.gamma algorithm.gigpo.step_advantage_w algorithm.gigpo.mode env.env_name
    env.seed env.max_steps env.rollout.n env.resources_per_worker.num_cpus trainer.critic_warmup trainer.logger
    trainer.project_name trainer.experiment_name trainer.n_gpus_per_node trainer.nnodes trainer.save_freq
    trainer.test_freq trainer.total_epochs trainer.val_before_train algorithm.filter_groups.enable
""".split()  # noqa: SIM905


def _key(ours: str) -> str:
    """The key of a name, which may be one inside its mapping."""
    return ours.partition(".")[0]


@pytest.mark.parametrize("name", [*SWIFT_EXAMPLES, *VERL_SCRIPTS])
def test_a_name_of_a_public_script_is_known(name: str) -> None:
    row = foreign_name(name)
    if name in OURS:
        return
    assert row is not None
    assert row.ours is None or _key(row.ours) in OURS
    assert row.sentence


@pytest.mark.parametrize("source", SOURCES)
def test_a_row_leads_to_a_key_or_gives_a_reason(source: str) -> None:
    rows = SOURCES[source].rows
    names = [row.name for row in rows]
    assert len(set(names)) == len(names)
    assert [row.name for row in rows if (row.ours is None) == (not row.words) and not row.ours] == []
    assert [row.name for row in rows if row.ours is not None and _key(row.ours) not in OURS] == []
    assert [row.name for row in rows if row.name in OURS] == []  # it would never be shown: the flag is ours
    assert [name for name in SOURCES[source].same if name not in OURS] == []
    assert [row.name for row in rows if row.words.endswith(".") or "\n" in row.words] == []


def test_one_name_has_one_meaning() -> None:
    meanings: dict[str, set[str]] = {}
    for source in SOURCES.values():
        for row in source.rows:
            meanings.setdefault(row.name, set()).add(row.sentence)
    assert {name for name, sentences in meanings.items() if len(sentences) > 1} == set()


def test_a_synonym_is_one_of_our_keys() -> None:
    assert synonyms()["save_total_limit"] == "checkpoint_keep"
    assert synonyms()["enable_thinking"] == "chat_template_kwargs.enable_thinking"
    assert {_key(ours) for ours in synonyms().values()} <= set(flags())
    assert not set(synonyms()) & set(flags())


def test_defaults_that_are_said_to_differ_do() -> None:
    ours = JobSpec.model_validate({"model": {"model": "/m"}}).model_dump()
    for source in SOURCES.values():
        for name, value in source.defaults.items():
            section, key = flags()[name][0], flags()[name][-1]
            assert ours[section][key] != value, (source.title, name)


def test_the_page_lists_the_tables_as_they_are() -> None:
    assert PAGE.read_text().endswith(tables())
