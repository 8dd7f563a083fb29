"""TRL: GRPOConfig, ModelConfig and the script's arguments."""

from __future__ import annotations

from services.contracts.foreign.row import Foreign, absent, instead, spaced, synonym
from services.contracts.foreign.shared import NO_QUANTISATION, PLAIN_LORA

TRL: tuple[Foreign, ...] = (
    synonym("model_name_or_path", "model"),
    synonym("dtype", "torch_dtype"),
    synonym("max_prompt_length", "max_prompt_tokens"),
    synonym("mask_truncated_completions", "overlong_filter"),
    synonym("sapo_temperature_pos", "tau_pos"),
    synonym("sapo_temperature_neg", "tau_neg"),
    synonym("vllm_importance_sampling_mode", "rollout_importance_sampling_mode"),
    synonym("vllm_importance_sampling_clip_max", "rollout_importance_sampling_threshold"),
    synonym("vllm_importance_sampling_cap", "rollout_importance_sampling_threshold"),
    synonym("off_policy_mask_threshold", "off_policy_sequence_mask_delta"),
    synonym("max_tool_calling_iterations", "max_turns"),
    instead("vllm_importance_sampling_correction", "rollout_importance_sampling_mode", "null is none"),
    instead("vllm_importance_sampling_clip_min", "rollout_importance_sampling_threshold", "weights have an"
            " upper bound only"),
    instead("multi_objective_aggregation", "scale_rewards", "where gdpo is normalize_then_sum"),
    instead("reward_model_name_or_path", "reward_funcs", "there are no reward models"),
    instead("dataset_name", "environment_kwargs", "with {data: FILE}, or --dataset FILE (docs/prompts.md)"),
    instead("dataset_train_split", "train_split"),
    instead("dataset_test_split", "eval_split"),
    *absent("the entropy bonus has a fixed weight, --entropy_coef", "use_adaptive_entropy entropy_coef_min"
            " entropy_coef_max"
            " entropy_coef_delta entropy_target"),
    *absent("the loss is not among ours; want one of --loss_type", "vespo_k_pos vespo_lambda_pos vespo_k_neg"
            " vespo_lambda_neg"),
    *absent("the cache is the engine's own", "cache_implementation"),
    *absent("a prompts file has one form (docs/prompts.md)", "dataset_config dataset_streaming ignore_bias_buffers"),
    instead("use_peft", "tuner_type", "with lora"),
    synonym("lora_r", "lora_rank"),
    synonym("lora_target_modules", "target_modules"),
    *absent(PLAIN_LORA, "lora_target_parameters lora_modules_to_save lora_task_type"),
    *absent(NO_QUANTISATION, "use_bnb_nested_quant"),
)  # fmt: skip

TRL_SAME = spaced(
    "learning_rate lora_alpha lora_dropout"
    " num_generations max_completion_length temperature beta num_iterations epsilon epsilon_high delta"
    " importance_sampling_level reward_weights scale_rewards loss_type top_entropy_quantile entropy_coef seed"
    " lr_scheduler_type weight_decay max_grad_norm gradient_checkpointing reward_funcs chat_template_kwargs"
    " vllm_tensor_parallel_size vllm_gpu_memory_utilization"
)

TRL_DEFAULTS: dict[str, object] = {
    "beta": 0.0,
    "scale_rewards": "group",
    "loss_type": "dapo",
    "seed": 42,
    "rollout_importance_sampling_mode": "sequence_mask",
    "rollout_importance_sampling_threshold": 3.0,
}
