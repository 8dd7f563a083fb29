"""`swift rlhf --rlhf_type grpo` and its Megatron variant as a job."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, get_args

from gigpo.client.completion import environment_ids
from gigpo.client.errors import BadInput
from gigpo.client.migration.script import Command
from gigpo.client.migration.translation import Translation, no_folder, number_of, typed
from services.contracts.foreign import SOURCES, synonyms
from services.contracts.foreign.row import spaced
from services.contracts.job import TrackerName, flags
from services.contracts.rewards import BUILT_IN_REWARDS

SOURCE = SOURCES["ms-swift"]
_PROMPT_TOKENS = 2048
LORA_RATE, LORA_DROPOUT = 1e-4, 0.05
"""ms-swift's defaults for adapters."""
_TOP_K = 50
"""ms-swift's default."""
_COUNTED = spaced(
    "per_device_train_batch_size gradient_accumulation_steps steps_per_generation generation_batch_size max_steps"
    " train_iters num_train_epochs warmup_ratio lr_warmup_fraction save_steps eval_steps micro_batch_size"
    " global_batch_size dataset split_dataset_ratio max_length vllm_max_model_len report_to rlhf_type use_vllm"
    " async_generate output_dir system reward_funcs reward_weights gym_env use_gym_env max_turns torch_dtype bf16"
    " advantage_estimator scale_rewards run_name tuner_type train_type stop_words"
)
"""Flags that are not taken one by one."""
Given = dict[str, list[str]]


def begins(words: list[str]) -> int | None:
    """The index at which the arguments of `swift rlhf` begin, if this is it."""
    for i, word in enumerate(words):
        program = PurePosixPath(word).name
        if program in ("swift", "megatron") and words[i + 1 : i + 2] == ["rlhf"]:
            return i + 2
        if program == "rlhf.py":
            return i + 1
    return None


def translated(command: Command, folder: Path) -> Translation:
    """The job that the command means here.

    Args:
        folder: where the script lies; a system prompt may be a file beside it.
    """
    given, job = dict(_given(command.words)), Translation(SOURCE)
    _require_grpo(given)
    for name, values in given.items():
        key = synonyms().get(name, name)
        if name not in _COUNTED and key.partition(".")[0] in flags():
            value = [typed(one) for one in values] if len(values) > 1 else typed(values[0]) if values else True
            job.put(key, value, _flag(name, given))
        elif name not in _COUNTED:
            job.leave(_flag(name, given), name)
    _model(job, given)
    _tuner(job, given)
    _task(job, given, folder)
    _batch(job, given, command.variables)
    _truncation(job, given)
    _rest(job, given)
    job.with_defaults()
    job.valid()
    return job


def _require_grpo(given: Given) -> None:
    """Raises BadInput: a job of another kind would train something that nobody asked for."""
    kind = str(_one(given, "rlhf_type", "grpo"))
    if kind != "grpo":
        raise BadInput(f"--rlhf_type {kind}: want grpo, {kind} is not trained here; GRPO and its relatives alone are")


def _given(words: list[str]) -> Iterator[tuple[str, list[str]]]:
    """Flag without dashes -> its values."""
    name, values = "", list[str]()
    for word in words:
        if re.match(r"--[A-Za-z]", word):
            if name:
                yield name, values
            name, equals, value = word[2:].partition("=")
            name, values = name.replace("-", "_"), [value] if equals else []
        else:
            values.append(word)
    if name:
        yield name, values


def _flag(name: str, given: Given) -> str:
    return " ".join([f"--{name}", *given[name]]).replace("\n", " ")


def _one(given: Given, name: str, default: object = None) -> Any:
    return typed(given[name][0]) if given.get(name) else default


def _count(given: Given, name: str, default: int) -> int:
    return int(number_of(_flag(name, given), given[name][0], least=1)) if given.get(name) else default


def _model(job: Translation, given: Given) -> None:
    if "model" not in job.settings:
        job.put("model", "/path/to/model", "")
        job.settle("model", "a folder in Hugging Face format; the script names none")
    elif not Path(str(job.settings["model"].value)).expanduser().is_dir():
        name = str(job.settings["model"].value)
        job.settle("model", no_folder(name))
    kind = str(_one(given, "torch_dtype", "bfloat16" if _one(given, "bf16") else ""))
    if kind in ("float32", "bfloat16"):
        job.put("torch_dtype", kind, _flag("torch_dtype" if "torch_dtype" in given else "bf16", given))
    elif kind:
        job.put("torch_dtype", "bfloat16", f"{_flag('torch_dtype', given)}: there is float32 and bfloat16")
    if "run_name" in given:
        job.put("name", job_name(given["run_name"][0]), _flag("run_name", given))


def job_name(text: str) -> str:
    """A text as the name of a job."""
    return re.sub(r"[^a-z0-9._-]+", "-", text.lower()).strip("-._")[:63] or "job"


def _task(job: Translation, given: Given, folder: Path) -> None:
    if _one(given, "use_gym_env") is True or "gym_env" in given:
        name = str(_one(given, "gym_env", "grid"))
        job.put("environment", name, _flag("gym_env", given) if "gym_env" in given else "")
        if "gym_env" not in given or name not in environment_ids():
            job.settle("environment", "an environment of this platform (`gigpo env list`, `gigpo env new`)")
        job.put(
            "max_turns", _one(given, "max_turns", 20), _flag("max_turns", given) if "max_turns" in given else "ours"
        )
        job.keep("invalid_action_penalty", 0.0, "ms-swift has none; ours is 0.1")
        for one in ("dataset", "split_dataset_ratio", "reward_funcs", "reward_weights"):
            if one in given:
                job.left.append((_flag(one, given), "the environment brings tasks and rewards (use_gym_env: true)"))
    else:
        _prompts(job, given, folder)
    if "system" in given:
        text = given["system"][0]
        file = next((one for one in (Path(text), folder / text) if text.endswith(".txt") and one.is_file()), None)
        job.put("system", file.read_text() if file else text, "--system")
        if text.endswith(".txt") and file is None:
            job.settle("system", f"the text of {text}, which is not here")
    budget = _one(given, "max_length")
    whole = _one(given, "vllm_max_model_len")
    longest = _one(given, "max_completion_length", 512)
    if budget is not None:
        job.put("max_prompt_tokens", budget, _flag("max_length", given))
        if isinstance(whole, int) and isinstance(budget, int) and whole < budget + longest:
            said = f"a prompt and its completion take up to {budget + longest:,} tokens here"
            job.left.append((_flag("vllm_max_model_len", given), said))
        elif whole is not None:
            job.put("vllm_max_model_len", whole, _flag("vllm_max_model_len", given))
    elif isinstance(whole, int) and whole > longest:
        job.put("max_prompt_tokens", whole - longest, f"{_flag('vllm_max_model_len', given)} less the completion")
    else:
        job.keep("max_prompt_tokens", _PROMPT_TOKENS, "ms-swift has no budget of its own; ours is 128")


def _prompts(job: Translation, given: Given, folder: Path) -> None:
    job.put("use_gym_env", False, "one reply to each prompt, scored by reward_funcs")
    names = given.get("dataset", [])
    if names:
        stem = PurePosixPath(names[0].partition("#")[0]).name.removesuffix(".jsonl") or "prompts"
        own = _local(names, folder)
        kwargs: dict[str, object] = {"data": own or stem}
        if (ratio := _one(given, "split_dataset_ratio")) is not None:
            kwargs["split_dataset_ratio"] = ratio
        job.put("environment_kwargs", kwargs, _flag("dataset", given))
        if own is None:
            job.settle(
                "environment_kwargs",
                f"{stem}/train.jsonl from {_flag('dataset', given)}, beside the job file as `data: ./{stem}`, or one "
                "file as `data: ./FILE.jsonl` or --dataset FILE.jsonl (docs/prompts.md)",
            )
    if "max_turns" in given:
        job.left.append((_flag("max_turns", given), "turns are an environment's (use_gym_env: true)"))
    functions = given.get("reward_funcs", [])
    known = [name for name in functions if name in BUILT_IN_REWARDS]
    others = [name for name in functions if name not in BUILT_IN_REWARDS]
    job.put("reward_funcs", known or ["accuracy"], _flag("reward_funcs", given) if functions else "")
    if others or not functions:
        job.settle(
            "reward_funcs",
            f"{' '.join(others) or 'a reward'} as FILE.py:FUNCTION or an installed plugin (docs/prompts.md)",
        )
    if (weights := given.get("reward_weights")) and len(weights) == len(functions):
        kept = [typed(one) for name, one in zip(functions, weights, strict=True) if name in known]
        job.put("reward_weights", kept or [1.0], _flag("reward_weights", given))


def _local(names: list[str], folder: Path) -> str | None:
    """The path of the one file of JSON lines that the script names, where it is on this machine."""
    file = names[0].partition("#")[0]
    if len(names) > 1 or not file.endswith(".jsonl"):
        return None
    return next((str(path.resolve()) for path in (folder / file, Path(file)) if path.is_file()), None)


def _tuner(job: Translation, given: Given) -> None:
    """Adapters are ms-swift's default, and have a learning rate of their own."""
    named = next((name for name in ("tuner_type", "train_type") if name in given), None)
    kind = str(_one(given, named)) if named else "lora"
    written = _flag(named, given) if named else "ms-swift's default"
    if kind == "full":
        job.put("tuner_type", kind, written)
        return
    job.put("tuner_type", "lora", written)
    if kind != "lora":
        job.settle("tuner_type", f"{written}: want full or lora, {kind} is not trained here")
    job.keep("learning_rate", LORA_RATE, "ms-swift's default for LoRA; ours is for all weights")
    job.keep("lora_dropout", LORA_DROPOUT, "ms-swift's default; ours is 0")


def _batch(job: Translation, given: Given, variables: dict[str, str]) -> None:
    """Completions per device and optimizer steps -> groups and batches."""
    devices = int(_digits(variables.get("NPROC_PER_NODE"))) * int(_digits(variables.get("NNODES")))
    rows = _count(given, "per_device_train_batch_size", 1) * devices
    accumulated = _count(given, "gradient_accumulation_steps", max(1, math.ceil(16 / rows)))
    steps = _count(given, "steps_per_generation", accumulated)
    batch = _count(given, "generation_batch_size", _count(given, "global_batch_size", rows * steps))
    generations = int(job.number("num_generations", 8))
    groups = max(1, batch // generations)
    job.put("groups_per_batch", groups, f"{batch} completions of {devices} process(es) in groups of {generations}")
    minibatches = max(1, steps // accumulated)
    job.put("minibatches", minibatches, "optimizer steps that ms-swift makes of one generation")
    per_batch = minibatches * int(job.number("num_iterations", 1))
    _length(job, given, groups, per_batch)
    for name, key in (("save_steps", "checkpoint_every"), ("eval_steps", "eval_every")):
        if isinstance(count := _one(given, name), int):
            job.put(key, max(1, count // per_batch), f"{_flag(name, given)}, in batches")


def _digits(text: str | None) -> str:
    return text if text and text.isdecimal() and int(text) else "1"


def _length(job: Translation, given: Given, groups: int, per_batch: int) -> None:
    steps = _one(given, "max_steps", _one(given, "train_iters"))
    sizes = [int(found[1]) for name in given.get("dataset", []) if (found := re.search(r"#(\d+)$", name))]
    epochs = _one(given, "num_train_epochs", 3)
    total = 60
    if isinstance(steps, int) and steps > 0:
        total = max(1, steps // per_batch)
        job.put("total_batches", total, f"{steps} optimizer steps, {per_batch} a batch")
    elif sizes and len(sizes) == len(given.get("dataset", [])):
        total = max(1, int(number_of("--num_train_epochs", str(epochs)) * sum(sizes) / groups))
        job.put("total_batches", total, f"{epochs} epoch(s) of {sum(sizes)} rows, {groups} a batch")
    else:
        job.put("total_batches", total, f"ours; {epochs} epoch(s) of a dataset whose size the script does not say")
    ratio = _one(given, "warmup_ratio", _one(given, "lr_warmup_fraction"))
    if ratio is not None:
        job.put(
            "warmup_batches", round(number_of("the warm-up ratio", str(ratio)) * total), f"{ratio} of {total} batches"
        )


def _truncation(job: Translation, given: Given) -> None:
    top_k, others = _one(given, "top_k"), [name for name in ("top_p", "min_p") if name in given]
    if top_k is None and others:
        written = " ".join(_flag(name, given) for name in others)
        job.put("top_k", _TOP_K, f"ms-swift's default beside {written}; ours is all tokens")
    if isinstance(top_k, int) and top_k < 0:
        job.put("top_k", 0, _flag("top_k", given))
    if "stop_words" in given:
        job.put("stop_words", [str(word) for word in given["stop_words"]], _flag("stop_words", given))


def _rest(job: Translation, given: Given) -> None:
    estimator = str(_one(given, "advantage_estimator", "grpo"))
    job.put(
        "advantage_estimator",
        estimator,
        _flag("advantage_estimator", given)
        if "advantage_estimator" in given
        else _flag("rlhf_type", given)
        if "rlhf_type" in given
        else "the script names no --rlhf_type",
    )
    if "scale_rewards" in given:
        said = str(given["scale_rewards"][0]) if given["scale_rewards"] else "true"
        scale = {"true": "group", "false": "none"}.get(said.lower(), said)
        job.put("scale_rewards", scale, _flag("scale_rewards", given))
    stale = 1 if _one(given, "async_generate") is True else 0
    job.put("max_staleness", stale, "--async_generate true" if stale else "ms-swift samples with the newest policy")
    if "use_vllm" in given:
        used = _one(given, "use_vllm") is not False
        job.put("engine", "vllm" if used else "transformers", _flag("use_vllm", given))
    known = get_args(TrackerName)
    names = given.get("report_to", [])
    if names:
        job.put("trackers", [name for name in names if name in known], _flag("report_to", given))
    unknown = [name for name in names if name not in (*known, "tensorboard", "none")]
    if unknown:
        job.left.append((f"--report_to {' '.join(unknown)}", f"want some of {', '.join(known)}"))
    if "output_dir" in given:
        job.leave(_flag("output_dir", given), "output_dir")
