"""ms-swift: `swift rlhf --rlhf_type grpo`, its Megatron variant, and `swift rollout`."""

from __future__ import annotations

from services.contracts.algorithm import ESTIMATORS
from services.contracts.foreign.row import Foreign, absent, instead, spaced, synonym
from services.contracts.foreign.shared import DEVICES, PLAIN_LORA, TEXT_ONLY

SWIFT: tuple[Foreign, ...] = (
    synonym("train_type", "tuner_type"),
    instead("rlhf_type", "advantage_estimator", f"of {', '.join(ESTIMATORS)}"),
    synonym("gym_env", "environment"),
    instead("max_length", "max_prompt_tokens", "the budget of a prompt; what does not fit is cut, in a fixed order"),
    instead("val_dataset", "environment_kwargs", "with {data: FOLDER}, whose test.jsonl is held out"),
    instead("split_dataset_ratio", "environment_kwargs", "with {split_dataset_ratio: 0.1}"),
    instead("external_plugins", "reward_funcs", "as FILE.py:FUNCTION (docs/prompts.md)"),
    instead("multi_turn_scheduler", "environment", "whose class plays the turns (`gigpo env new` writes one)"),
    instead("completion_length_limit_scope", "max_completion_length", "which is of each turn"),
    instead("teacher_model", "model", "distillation is not done here; start from a trained model"),
    synonym("lr", "learning_rate"),
    instead("min_lr", "lr_end_ratio", "the last learning rate as a share of the first"),
    instead("train_iters", "total_batches", "which counts batches"),
    instead("micro_batch_size", "microbatch_tokens", "tokens, not rows"),
    instead("global_batch_size", "groups_per_batch", "which counts groups of num_generations episodes"),
    instead("lr_warmup_fraction", "warmup_batches", "a number of batches, not a share"),
    instead("recompute_granularity", "gradient_checkpointing"),
    *absent("rewards come from the environment or from reward_funcs; there are no reward models", "reward_model"
            " reward_model_plugin reward_model_type reward_model_revision reward_adapters"),
    *absent("distillation is not done here", "teacher_adapters teacher_model_type teacher_model_revision"
            " teacher_model_server teacher_tag_key teacher_deepspeed offload_teacher_model teacher_kl_coef"
            " lmbda sft_alpha"
            " gkd_logits_topk advantage_reweight rlsd_lambda rlsd_reweight_clip_range rlsd_lambda_warmup_steps"
            " rlsd_lambda_decay_steps rlsd_negative_only sdar_loss_coef sdar_gate_beta"),
    *absent("only what the policy wrote is trained on, and a job is one algorithm", "loss_scale loss_weights"
            " label_smoothing"
            " rpo_alpha ld_alpha desirable_weight undesirable_weight center_rewards_coefficient chord_sft_dataset"
            " chord_sft_per_device_train_batch_size chord_mu_warmup_steps chord_mu_decay_steps chord_mu_peak"
            " chord_mu_valley chord_enable_phi_function"),
    *absent("a prompt that is too long is cut in a fixed order, never left out"
            " (docs/prompts.md)", "truncation_strategy"),
    *absent(PLAIN_LORA, "tuner_backend freeze_parameters freeze_parameters_regex freeze_parameters_ratio"
            " trainable_parameters trainable_parameters_regex"),
    *absent(TEXT_ONLY, "freeze_llm freeze_vit freeze_aligner max_pixels vit_lr aligner_lr vit_gradient_checkpointing"
            " norm_bbox"),
    *absent(DEVICES, "sequence_parallel offload_bridge optimizer_cpu_offload optimizer_offload_fraction finetune"
            " use_precision_aware_optimizer recompute_method recompute_num_layers cross_entropy_loss_fusion"
            " moe_permute_fusion moe_grouped_gemm moe_shared_expert_overlap moe_aux_loss_coeff"
            " moe_expert_capacity_factor expert_tensor_parallel_size gradient_accumulation_fusion"),
    *absent("the tokenizer and the configuration in the folder of --model say it", "model_type task_type num_labels"
            " new_special_tokens rope_scaling local_repo_path problem_type init_strategy"),
    *absent("the lines of a prompts file say it (docs/prompts.md)", "columns interleave_prob stopping_strategy"
            " download_mode"
            " custom_dataset_info disable_auto_column_mapping strict cached_dataset cached_val_dataset"
            " val_dataset_shuffle"),
    *absent("a job is its file alone; nothing else is loaded", "load_args load_data_args ignore_args_error"
            " check_model"
            " model_name model_author callbacks early_stop_interval"),
    *absent("SwanLab is no tracker here; want mlflow, wandb or trackio for --trackers", "swanlab_token"
            " swanlab_project"
            " swanlab_workspace swanlab_exp_name swanlab_mode"),
)  # fmt: skip

SWIFT_SAME = spaced(
    "model torch_dtype system max_turns use_gym_env use_chat_template seed learning_rate lr_scheduler_type"
    " tuner_type lora_rank lora_alpha lora_dropout target_modules weight_decay kl_in_reward model_revision real_tau"
    " max_grad_norm gradient_checkpointing temperature num_generations max_completion_length beta loss_type epsilon"
    " epsilon_high delta tau_pos tau_neg fipo_decay_rate fipo_clip_range fipo_clip_high_only fipo_safety_threshold"
    " importance_sampling_level advantage_estimator scale_rewards dynamic_sample max_resample_times overlong_filter"
    " top_entropy_quantile num_iterations rollout_importance_sampling_mode rollout_importance_sampling_threshold"
    " off_policy_sequence_mask_delta reward_funcs reward_weights cosine_min_len_value_wrong"
    " cosine_max_len_value_wrong"
    " cosine_min_len_value_correct cosine_max_len_value_correct cosine_max_len repetition_n_grams"
    " repetition_max_penalty soft_max_length soft_cache_length"
    " vllm_tensor_parallel_size vllm_pipeline_parallel_size vllm_gpu_memory_utilization vllm_max_model_len"
    " vllm_max_num_seqs vllm_quantization vllm_enable_prefix_caching vllm_engine_kwargs"
)
"""Names that are ours too."""

SWIFT_DEFAULTS: dict[str, object] = {
    "temperature": 0.9,
    "learning_rate": 1e-5,
    "lr_scheduler_type": "cosine",
    "weight_decay": 0.1,
    "seed": 42,
    "loss_type": "grpo",
    "scale_rewards": "group",
    "rollout_importance_sampling_mode": None,
}
"""Defaults of names that are ours too, where they differ from ours; of GRPO with all weights trained."""
