"""A learner of a real size on this machine's GPUs: step time, tokens per second, MFU, publishing, memory.

    python -m benchmarks.weights [--sizes 1.5B 7B] [--tuners full lora] [--json out.json]
    torchrun --nproc-per-node 8 -m benchmarks.weights     one learner on eight GPUs

Weights are random and of Qwen2.5's shapes, as figures do not depend on their values. Without a GPU it says so and ends;
no GPU has run it yet. Memory is compared with the estimate that dry runs use. MFU counts 6 operations per weight and
trained token (8 where activations are computed again), against --peak-tflops of the device's bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import time
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from transformers import Qwen2Config, Qwen2ForCausalLM

from gigpo.client.doctor.training import SIZES
from gigpo_core import lone_turn
from services.contracts.job import JobSpec
from services.contracts.learner_memory import PROCESS_BYTES, Decoder, Load, learner_memory
from services.trainer.learner.learner import Learner
from services.trainer.learner.ranks import ALONE, Ranks, joined
from services.trainer.learner.rows import Row

HEAD_WIDTH = {896: 64}
"""Width of a head for the hidden sizes whose heads are not 128 wide."""
PROMPT, RESPONSE, ROWS = 1_536, 512, 32
TOKENS = 16_384
"""Tokens of a micro-batch."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--sizes", nargs="+", choices=SIZES, default=["1.5B", "7B"])
    options.add_argument("--tuners", nargs="+", choices=["full", "lora"], default=["full", "lora"])
    options.add_argument("--repetitions", type=int, default=5)
    options.add_argument("--peak-tflops", type=float, default=989.0, help="of one device; 989: an H200 in bfloat16")
    options.add_argument("--json", type=Path)
    chosen = options.parse_args()
    if not torch.cuda.is_available():
        print("no GPU here: nothing was measured")
        return
    ranks = ALONE
    if "RANK" in os.environ:
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
        dist.init_process_group("cpu:gloo,cuda:nccl")
        ranks = joined(dist.get_world_size())
    found = []
    with TemporaryDirectory(dir=chosen.json.parent if chosen.json else None) as folder:
        for size in chosen.sizes:
            base = shared(Path(folder) / size, ranks)
            if ranks.leads:
                write_model(base, SIZES[size])
            if ranks is not ALONE:
                dist.barrier()
            for tuner in chosen.tuners:
                found.append(measured(base, size, tuner, ranks, chosen))
                torch.cuda.empty_cache()
    if ranks.leads and chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")
    if ranks is not ALONE:
        dist.destroy_process_group()


def shared(folder: Path, ranks: Ranks) -> Path:
    """Rank 0's folder."""
    names = [str(folder)]
    if ranks is not ALONE:
        dist.broadcast_object_list(names, 0)
    return Path(names[0])


def write_model(folder: Path, model: Decoder) -> None:
    config = Qwen2Config(
        vocab_size=model.vocabulary,
        hidden_size=model.hidden,
        intermediate_size=model.inner,
        num_hidden_layers=model.layers,
        num_attention_heads=model.hidden // HEAD_WIDTH.get(model.hidden, 128),
        num_key_value_heads=model.key_value // HEAD_WIDTH.get(model.hidden, 128),
        tie_word_embeddings=model.tied,
        dtype="bfloat16",
    )
    with torch.device("cuda"):
        made = Qwen2ForCausalLM(config).to(torch.bfloat16)
    made.save_pretrained(folder)
    del made
    torch.cuda.empty_cache()
    for name in ("tokenizer.json", "tokenizer_config.json"):  # no text is read
        (folder / name).write_text("{}")


def measured(base: Path, size: str, tuner: str, ranks: Ranks, chosen: argparse.Namespace) -> dict[str, Any]:
    """One learner: batches of one optimizer step, then the writing of a policy version."""
    spec, model = spec_of(base, tuner), SIZES[size]
    rows = drawn(ROWS * ranks.number, model.vocabulary)
    needs = learner_memory(spec, model, ranks.count, Load(TOKENS, TOKENS * RESPONSE // (PROMPT + RESPONSE)))
    torch.cuda.reset_peak_memory_stats()
    learner = Learner(spec, base, ranks)
    seconds = [timed(partial(learner.train_batch, rows, batch)) for batch in range(chosen.repetitions + 1)]
    step = statistics.median(seconds[1:])
    publish = [timed(partial(learner.save_policy, base.parent / f"v{size}{tuner}")) for _ in range(3)]
    tokens = len(rows) * (PROMPT + RESPONSE)
    operations = 8 if spec.checkpoints_activations else 6
    found = {
        "size": size,
        "tuner": tuner,
        "ranks": ranks.number,
        "device": learner.device,
        "step_s": step,
        "tokens_per_s": tokens / step,
        "mfu": operations * model.parameters * tokens / step / (1e12 * chosen.peak_tflops * ranks.number),
        "publish_s": statistics.median(publish),
        "peak_bytes": torch.cuda.max_memory_reserved(),
        "estimated_bytes": needs.peak + PROCESS_BYTES,
    }
    if ranks.leads:
        print(found, flush=True)
    return found


def timed(work: Any) -> float:
    torch.cuda.synchronize()
    start = time.monotonic()
    work()
    torch.cuda.synchronize()
    return time.monotonic() - start


def spec_of(base: Path, tuner: str) -> JobSpec:
    return JobSpec.model_validate(
        {
            "model": {"model": str(base), "tuner_type": tuner, "torch_dtype": "bfloat16"},
            "environment": {"max_prompt_tokens": PROMPT},
            "rollout": {"max_completion_length": RESPONSE},
            "algorithm": {"beta": 0.0},
            "training": {"microbatch_tokens": TOKENS, "minibatches": 1},
        }
    )


def drawn(number: int, vocabulary: int) -> list[Row]:
    draw = random.Random(0)

    def ids(length: int) -> list[int]:
        return [draw.randrange(3, vocabulary) for _ in range(length)]

    unsampled = ((-11.9,) * RESPONSE, (-1,) * RESPONSE)
    return [Row(lone_turn(ids(PROMPT), ids(RESPONSE)), *unsampled, draw.gauss(0, 1), "g") for _ in range(number)]


if __name__ == "__main__":
    main()
