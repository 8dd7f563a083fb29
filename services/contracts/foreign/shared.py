"""Settings that ms-swift and TRL share: transformers' training arguments, vLLM's options, and GRPO's own."""

from __future__ import annotations

from services.contracts.foreign.row import Foreign, absent, instead, synonym

NO_QUANTISATION = "there is no quantised training; --tuner_type lora with --torch_dtype bfloat16 needs the least memory"
PLAIN_LORA = "adapters are plain LoRA (--tuner_type lora, --lora_rank, --lora_alpha, --lora_dropout, --target_modules)"
DEVICES = "the operator decides on devices: TRAINER_RANKS of a trainer, replicas of the engine (docs/deployment.md)"
STACK_RUNS_VLLM = "the stack starts and fills vLLM itself; --engine vllm is the default"
NO_PENALTIES = "tokens are sampled by the policy's own probabilities, among all of them or the likeliest (--top_k)"
OWN_CHECKPOINTS = (
    "checkpoints are written by the stack and always complete; `gigpo checkpoints` lists and downloads them"
)
NO_HUB = "nothing is sent to a hub; `gigpo checkpoints download JOB` gives a folder in Hugging Face format"
TEXT_ONLY = "models of text alone are trained"
EVERY_STEP = "every batch is recorded, in metrics.jsonl, TensorBoard's files and the dashboard"
PACKS_ITSELF = "rows are packed without padding by themselves, up to --microbatch_tokens"

SHARED: tuple[Foreign, ...] = (
    instead("per_device_train_batch_size", "groups_per_batch", "which counts groups of num_generations episodes"),
    instead("generation_batch_size", "groups_per_batch", "which counts groups, not completions"),
    instead("gradient_accumulation_steps", "minibatches", "optimizer steps of a batch; --microbatch_tokens"
            " bounds memory"),
    instead("steps_per_generation", "minibatches", "optimizer steps of a batch"),
    instead("per_device_eval_batch_size", "eval_episodes", "the episodes of a whole evaluation"),
    instead("num_generations_eval", "eval_episodes", "the episodes of a whole evaluation"),
    instead("num_train_epochs", "total_batches", "which counts batches; a dataset is drawn from, not gone through"),
    instead("max_steps", "total_batches", "which counts batches, not optimizer steps"),
    instead("save_steps", "checkpoint_every", "which counts batches, not optimizer steps"),
    instead("eval_steps", "eval_every", "which counts batches, not optimizer steps"),
    instead("warmup_ratio", "warmup_batches", "a number of batches, not a share"),
    instead("warmup_steps", "warmup_batches", "which counts batches, not optimizer steps"),
    instead("report_to", "trackers", "of mlflow, wandb, trackio; TensorBoard's files are always written"),
    instead("bf16", "torch_dtype", "with bfloat16"),
    instead("use_vllm", "engine", "with vllm, which is the default; transformers is the other one"),
    instead("output_dir", "output", "a folder for this job's results; the default is runs/NAME"),
    instead("trust_remote_code", "model", "a folder whose architecture transformers has; code from a folder is"
            " never run"),
    instead("async_generate", "max_staleness", "policy versions that may lie between sampling and training"),
    instead("ref_model", "beta", "the reference is the policy that the job starts from"),
    instead("resume_from_checkpoint", "model", "as job:ID/CHECKPOINT; `gigpo jobs retry` and `fork` go on with"
            " a job"),
    instead("logging_dir", "output"),
    synonym("save_total_limit", "checkpoint_keep"),
    synonym("run_name", "name"),
    instead("target_regex", "target_modules", "names of layers, or all-linear"),
    *absent(PLAIN_LORA, "lora_bias lora_dtype lorap_lr_ratio use_dora use_rslora target_parameters modules_to_save"
            " init_weights"),
    *absent("a job starts from a whole model (--model); merge the adapter into it first", "adapters ref_adapters"),
    *absent("every checkpoint holds the merged weights, and in its folder `adapter` the adapter alone", "merge_lora"),
    *absent("the engine follows --tuner_type and --lora_rank", "vllm_enable_lora vllm_max_lora_rank"),
    *absent(NO_QUANTISATION, "quant_method quant_bits bnb_4bit_compute_dtype bnb_4bit_quant_type"
            " bnb_4bit_use_double_quant bnb_4bit_quant_storage load_in_4bit load_in_8bit"),
    *absent(DEVICES, "deepspeed fsdp fsdp_config ddp_find_unused_parameters ddp_timeout ddp_backend"
            " zero_hpz_partition_size"
            " deepspeed_autotp_size"
            " sequence_parallel_size tensor_model_parallel_size pipeline_model_parallel_size context_parallel_size"
            " expert_model_parallel_size ds3_gather_for_generation use_ray device_groups device_map max_memory"
            " average_tokens_across_devices nproc_per_node nnodes node_rank"),
    *absent(STACK_RUNS_VLLM, "vllm_mode vllm_server_host vllm_server_port vllm_server_base_url vllm_server_timeout"
            " vllm_group_port vllm_server_group_port vllm_server_pass_dataset sleep_level offload_optimizer"
            " offload_model"
            " move_model_batches vllm_enable_sleep_mode vllm_model_impl enable_flattened_weight_sync infer_backend"
            " use_transformers_paged use_transformers_continuous_batching transformers_continuous_batching_config"
            " vllm_use_async_engine"),
    *absent("each replica of the inference service is a vLLM of its own; start more of them",
            "vllm_data_parallel_size"),
    instead("vllm_enforce_eager", "vllm_engine_kwargs", "as {enforce_eager: true}"),
    instead("vllm_disable_custom_all_reduce", "vllm_engine_kwargs", "as {disable_custom_all_reduce: true}"),
    instead("vllm_disable_cascade_attn", "vllm_engine_kwargs", "as {disable_cascade_attn: true}"),
    instead("vllm_enable_expert_parallel", "vllm_engine_kwargs", "as {enable_expert_parallel: true}"),
    instead("vllm_speculative_config", "vllm_engine_kwargs", "as {speculative_config: ...}"),
    *absent("the operator of the stack sets what vLLM may use (services/inference/README.md)",
            "vllm_limit_mm_per_prompt vllm_mm_processor_cache_gb vllm_reasoning_parser"),
    synonym("vllm_max_model_length", "vllm_max_model_len"),
    synonym("max_model_len", "vllm_max_model_len"),
    *absent(NO_PENALTIES, "repetition_penalty generation_kwargs num_beams"),
    *absent("a reply can be restricted to the environment's actions (--guided_decoding admissible_actions); other forms"
            " are rewarded, not forced (reward_funcs: format)",
            "vllm_structured_outputs_regex structured_outputs_regex"),
    *absent("the reference policy stays the one that the job starts from",
            "sync_ref_model ref_model_mixup_alpha ref_model_sync_steps"),
    *absent(OWN_CHECKPOINTS, "save_only_model save_strategy save_safetensors safe_serialization max_shard_size"
            " save_on_each_node no_save_optim no_save_rng resume_only_model ignore_data_skip"
            " create_checkpoint_symlink"
            " add_version overwrite_output_dir load_best_model_at_end metric_for_best_model greater_is_better"),
    *absent(EVERY_STEP, "logging_steps logging_first_step logging_strategy"),
    *absent("every rollout is kept and shown (`gigpo rollouts`, and the job's page)", "log_completions"
            " num_completions_to_print log_unique_prompts log_completions_hub_repo log_multimodal"),
    *absent("entropy and the mismatch of engine and trainer are always recorded", "log_entropy"
            " log_rollout_offpolicy_metrics"),
    *absent("evaluations run before and after training and every --eval_every batches", "eval_strategy eval_on_start"
            " do_eval eval_use_evalscope eval_dataset eval_dataset_args eval_limit eval_generation_config"),
    *absent("the loss's correction for the engine's probabilities covers it: --rollout_importance_sampling_mode",
            "use_bias_correction_kl"),
    *absent(PACKS_ITSELF, "padding_free packing packing_length packing_num_proc packing_strategy"
            " group_by_length padding_side"
            " pad_to_multiple_of auto_find_batch_size"),
    *absent("the environment service reads data itself, in parallel", "dataloader_num_workers dataloader_pin_memory"
            " dataloader_persistent_workers dataloader_prefetch_factor dataloader_drop_last dataset_num_proc"
            " load_from_cache_file streaming lazy_tokenize shuffle_dataset dataset_shuffle train_dataloader_shuffle"
            " data_seed remove_unused_columns shuffle_buffer_size"),
    *absent("the optimizer is AdamW with betas of its own; --learning_rate, --weight_decay and --max_grad_norm"
            " are yours",
            "optim optim_args optimizer adam_beta1 adam_beta2 adam_epsilon lr_scheduler_kwargs"),
    *absent("transformers chooses the attention kernel", "attn_impl attn_implementation attention_backend"),
    *absent("the trainer has one path of computation, which tests compare with plain PyTorch", "use_liger_kernel"
            " gradient_checkpointing_kwargs torch_compile torch_empty_cache_steps neftune_noise_alpha disable_dropout"
            " cast_lm_head_to_fp32 fp16 tf32 full_determinism use_logits_to_keep use_cpu"),
    *absent("mixtures of experts are not trained here", "router_aux_loss_coef experts_impl router_replay_mode"),
    *absent(NO_HUB, "push_to_hub hub_model_id hub_private_repo hub_token hub_strategy use_hf"),
    *absent("the model's own configuration decides", "model_init_kwargs"),
    synonym("enable_thinking", "chat_template_kwargs.enable_thinking"),
    synonym("preserve_thinking", "chat_template_kwargs.preserve_thinking"),
    *absent("the tokenizer's chat template decides (--chat_template_kwargs sets what it reads); --prompt_form and"
            " --prompt_template choose the words of a step",
            "add_non_thinking_prefix template agent_template response_prefix template_backend chat_template_path"),
)  # fmt: skip
