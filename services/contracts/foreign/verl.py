"""verl-agent: the keys of `python -m verl.trainer.main_ppo`, as its scripts and its ppo_trainer.yaml have them."""

from __future__ import annotations

from services.contracts.algorithm import ESTIMATORS
from services.contracts.foreign.row import Foreign, absent, instead
from services.contracts.foreign.shared import DEVICES, EVERY_STEP, OWN_CHECKPOINTS, PACKS_ITSELF

_ACTOR, _ROLLOUT, _MODEL = "actor_rollout_ref.actor", "actor_rollout_ref.rollout", "actor_rollout_ref.model"
NO_CRITIC = "there is no critic: advantages come from groups"


def _under(prefix: str, names: str) -> str:
    return " ".join(f"{prefix}.{name}" for name in names.split())


VERL: tuple[Foreign, ...] = (
    instead("algorithm.adv_estimator", "advantage_estimator", f"of {', '.join(ESTIMATORS)}"),
    instead("algorithm.gamma", "gamma"),
    instead("algorithm.gigpo.step_advantage_w", "gigpo_step_advantage_weight"),
    instead("algorithm.gigpo.mode", "norm", "where mean_norm is mean and mean_std_norm is mean_std"),
    instead("algorithm.gigpo.enable_similarity", "anchor_similarity", "a number, or null for equal texts only"),
    instead("algorithm.gigpo.similarity_thresh", "anchor_similarity"),
    instead("algorithm.norm_adv_by_std_in_grpo", "norm", "where true is mean_std"),
    instead("algorithm.filter_groups.enable", "dynamic_sample"),
    instead("algorithm.filter_groups.max_num_gen_batches", "max_resample_times"),
    instead("data.train_batch_size", "groups_per_batch"),
    instead("data.val_batch_size", "eval_episodes"),
    instead("data.max_prompt_length", "max_prompt_tokens"),
    instead("data.max_response_length", "max_completion_length"),
    instead("data.train_files", "environment_kwargs", "the environment brings its tasks; `gigpo env show ID`"
            " lists its keys"),
    instead("data.val_files", "eval_split", "of the environment's own tasks"),
    instead(f"{_MODEL}.path", "model"),
    instead(f"{_MODEL}.enable_gradient_checkpointing", "gradient_checkpointing"),
    instead(f"{_ACTOR}.optim.lr", "learning_rate"),
    instead(f"{_ACTOR}.optim.weight_decay", "weight_decay"),
    instead(f"{_ACTOR}.optim.warmup_style", "lr_scheduler_type"),
    instead(f"{_ACTOR}.optim.min_lr_ratio", "lr_end_ratio"),
    instead(f"{_ACTOR}.optim.lr_warmup_steps", "warmup_batches", "which counts batches"),
    instead(f"{_ACTOR}.optim.lr_warmup_steps_ratio", "warmup_batches", "a number of batches, not a share"),
    instead(f"{_ACTOR}.ppo_mini_batch_size", "minibatches", "how many a batch is split into, not how large one is"),
    instead(f"{_ACTOR}.ppo_mini_update_num", "minibatches"),
    instead(f"{_ACTOR}.ppo_micro_batch_size_per_gpu", "microbatch_tokens", "tokens, not rows"),
    instead(f"{_ACTOR}.ppo_max_token_len_per_gpu", "microbatch_tokens"),
    instead(f"{_ACTOR}.ppo_epochs", "num_iterations"),
    instead(f"{_ACTOR}.grad_clip", "max_grad_norm"),
    instead(f"{_ACTOR}.clip_ratio", "epsilon"),
    instead(f"{_ACTOR}.clip_ratio_low", "epsilon"),
    instead(f"{_ACTOR}.clip_ratio_high", "epsilon_high"),
    instead(f"{_ACTOR}.loss_agg_mode", "loss_type", "where token-mean is bnpo and seq-mean-token-mean is grpo"),
    instead(f"{_ACTOR}.policy_loss.loss_mode", "importance_sampling_level", "where gspo is sequence"),
    instead(f"{_ACTOR}.entropy_coeff", "entropy_coef"),
    instead(f"{_ACTOR}.use_kl_loss", "beta", "0 is no KL"),
    instead(f"{_ACTOR}.kl_loss_coef", "beta"),
    instead(f"{_ACTOR}.kl_loss_type", "kl_estimator", "where kl is k1, mse is k2 and low_var_kl is k3"),
    instead(f"{_ACTOR}.use_invalid_action_penalty", "invalid_action_penalty", "0 is none"),
    instead(f"{_ACTOR}.invalid_action_penalty_coef", "invalid_action_penalty"),
    instead(f"{_ROLLOUT}.name", "engine"),
    instead(f"{_ROLLOUT}.temperature", "temperature"),
    instead(f"{_ROLLOUT}.n", "num_generations"),
    instead(f"{_ROLLOUT}.dtype", "torch_dtype", "which is of the trainer and the engine"),
    instead("env.env_name", "environment", "such as alfworld, webshop, sokoban, search_qa (`gigpo env list`)"),
    instead("env.seed", "seed"),
    instead("env.max_steps", "max_turns"),
    instead("env.history_length", "history_length"),
    instead("env.rollout.n", "num_generations"),
    instead("env.alfworld.eval_dataset", "eval_split", "of valid_seen and valid_unseen"),
    instead("env.sokoban.dim_room", "environment_kwargs", "with {size: [6]}"),
    instead("env.sokoban.num_boxes", "environment_kwargs", "with {boxes: [1]}"),
    instead("env.search.topk", "environment_kwargs", "with {top_k: 3}"),
    instead("env.webshop.human_goals", "environment_kwargs", "with {goals: human}"),
    instead("trainer.total_epochs", "total_batches", "where one epoch of its scripts is one batch"),
    instead("trainer.total_training_steps", "total_batches"),
    instead("trainer.test_freq", "eval_every", "where 0 is before and after only"),
    instead("trainer.save_freq", "checkpoint_every"),
    instead("trainer.max_actor_ckpt_to_keep", "checkpoint_keep"),
    instead("trainer.logger", "trackers", "of mlflow, wandb, trackio; TensorBoard's files are always written"),
    instead("trainer.project_name", "tracking_project"),
    instead("trainer.experiment_name", "name", "in small letters"),
    instead("trainer.default_local_dir", "output"),
    instead("trainer.resume_from_path", "model", "as job:ID/CHECKPOINT; `gigpo jobs retry` and `fork` go on"
            " with a job"),
    *absent("evaluations sample as training does, at"
            " --temperature", _under(f"{_ROLLOUT}.val_kwargs", "temperature do_sample n top_k top_p")),
    instead(f"{_ROLLOUT}.top_k", "top_k", "where 0 is no limit"),
    instead(f"{_ROLLOUT}.top_p", "top_p", "together with top_k"),
    instead("algorithm.use_kl_in_reward", "kl_in_reward"),
    instead("algorithm.kl_ctrl.kl_coef", "beta"),
    *absent("the KL in the reward is k1's and has one weight, --beta", "algorithm.kl_penalty algorithm.kl_ctrl.type"),
    *absent(NO_CRITIC, "trainer.critic_warmup algorithm.lam critic.optim.lr critic.model.path"
            " critic.ppo_micro_batch_size_per_gpu critic.model.use_remove_padding trainer.max_critic_ckpt_to_keep"
            " critic.model.enable_gradient_checkpointing critic.model.fsdp_config.param_offload"
            " critic.model.fsdp_config.optimizer_offload"),
    *absent(DEVICES, "trainer.n_gpus_per_node trainer.nnodes trainer.device ray_init.num_cpus trainer.balance_batch "
            + _under(_ACTOR, "fsdp_config.param_offload fsdp_config.optimizer_offload strategy"
                     " ulysses_sequence_parallel_size")
            + " actor_rollout_ref.ref.fsdp_config.param_offload"),
    instead(f"{_ROLLOUT}.tensor_model_parallel_size", "vllm_tensor_parallel_size"),
    instead(f"{_ROLLOUT}.gpu_memory_utilization", "vllm_gpu_memory_utilization"),
    instead(f"{_ROLLOUT}.max_num_seqs", "vllm_max_num_seqs"),
    instead(f"{_ROLLOUT}.max_model_len", "vllm_max_model_len"),
    instead(f"{_ROLLOUT}.enforce_eager", "vllm_engine_kwargs", "as {enforce_eager: true}"),
    instead(f"{_ROLLOUT}.enable_chunked_prefill", "vllm_engine_kwargs", "as {enable_chunked_prefill: true}"),
    instead(f"{_ROLLOUT}.max_num_batched_tokens", "vllm_engine_kwargs", "as {max_num_batched_tokens: 8192}"),
    *absent("the stack runs vLLM, and its operator sets what it may use (services/inference/README.md)",
            _under(_ROLLOUT, "free_cache_engine load_format mode layered_summon")),
    *absent("forward passes are cut by --microbatch_tokens"
            " alone", _under(_ROLLOUT, "log_prob_micro_batch_size_per_gpu")
            + " actor_rollout_ref.ref.log_prob_micro_batch_size_per_gpu"),
    *absent(PACKS_ITSELF, _under(_MODEL, "use_remove_padding use_fused_kernels use_liger use_shm") + " "
            + _under(_ACTOR, "use_dynamic_bsz use_torch_compile shuffle use_adaptive_ppo_mini_batch_size")),
    instead(f"{_MODEL}.lora_rank", "lora_rank", "with --tuner_type lora; 0 there is full here"),
    instead(f"{_MODEL}.lora_alpha", "lora_alpha"),
    instead(f"{_MODEL}.target_modules", "target_modules"),
    *absent("code from a model's folder is never run", _under(_MODEL, "trust_remote_code external_lib") + ""
            " data.trust_remote_code"),
    *absent("a prompt that is too long is cut in a fixed order, never left out (docs/prompts.md)",
            "data.filter_overlong_prompts data.truncation"),
    *absent("the environment puts a step into words (--prompt_template)", "data.return_raw_chat data.prompt_key"),
    instead("data.apply_chat_template_kwargs.enable_thinking", "chat_template_kwargs.enable_thinking"),
    instead("data.apply_chat_template_kwargs", "chat_template_kwargs"),
    *absent("models of text alone are trained", "data.image_key data.video_key env.sokoban.mode"),
    *absent("the stack starts as many environment workers as the machine bears (ENV_SERVICE_WORKERS)",
            "env.resources_per_worker.num_cpus env.resources_per_worker.num_gpus"),
    *absent("evaluations run before and after training; `gigpo eval` plays a checkpoint alone",
            "trainer.val_before_train trainer.val_only env.rollout.val_n"),
    *absent(EVERY_STEP, "trainer.log_val_generations trainer.rollout_data_dir trainer.validation_data_dir"),
    *absent(OWN_CHECKPOINTS, "trainer.resume_mode trainer.del_local_ckpt_after_load trainer.default_hdfs_dir"),
    *absent("a step's dual clip is --delta, which caps the ratio", f"{_ACTOR}.clip_ratio_c"),
    *absent("rewards come from the environment or from reward_funcs", "reward_model.enable"
            " reward_model.reward_manager"
            " custom_reward_function.path custom_reward_function.name"),
    *absent("search_qa brings its own search engine", "env.search.search_url env.search.timeout"
            " env.search.log_requests"),
    *absent("a room is made by playing backwards; its bounds are {min_moves, max_moves}", "env.sokoban.search_depth"),
    *absent("the catalogue's size is environment_kwargs: {products: N}", "env.webshop.use_small"),
    *absent("one policy plays; there are no teams of agents", "agent.orchestra_type agent.model_sharing"
            " agent.model_ids"
            " agent.agent_ids algorithm.group_by_agent_id"),
)  # fmt: skip

VERL_DEFAULTS: dict[str, object] = {
    "gamma": 1.0,
    "entropy_coef": 0.001,
    "beta": 0.0,
    "lr_scheduler_type": "constant",
    "weight_decay": 0.01,
    "history_length": 2,
    "max_turns": 50,
    "norm": "mean_std",
    "rollout_importance_sampling_mode": None,
}
"""Defaults of verl-agent under our names, where they differ from ours."""
