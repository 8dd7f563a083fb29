"""Peak memory of a learner on 1 and 2 ranks against the estimate that dry runs, doctor and learner share.

    python -m benchmarks.memory [--ranks 1 2] [--cases full lora ...] [--json out.json]

The model has random weights of SmolLM2-135M's shape. Each case runs in processes of its own: two batches of two
micro-batches. Measured is a rank's peak resident memory (on a GPU: the peak that torch reserved) while it trains, and
compared with the estimate for the same micro-batch, the process included.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
import torch.distributed as dist
from transformers import LlamaConfig, LlamaForCausalLM

from gigpo_core import lone_turn
from services.contracts.job import JobSpec
from services.contracts.learner_memory import PROCESS_BYTES, Load, learner_memory
from services.trainer.learner.fitting import decoder_of
from services.trainer.learner.learner import Learner
from services.trainer.learner.ranks import ALONE, joined
from services.trainer.learner.rows import Row

KEPT = {"gradient_checkpointing": False}
CASES: dict[str, dict[str, Any]] = {
    "full": {"beta": 0.0},
    "full, reference": {"beta": 0.05},
    "full, all activations": {"beta": 0.0, "training": KEPT},
    "full, bfloat16": {"beta": 0.0, "model": {"torch_dtype": "bfloat16"}},
    "lora": {"beta": 0.05, "model": {"tuner_type": "lora"}},
    "lora, bfloat16": {"beta": 0.05, "model": {"tuner_type": "lora", "torch_dtype": "bfloat16"}},
}
PROMPT, RESPONSE, ROWS, BATCHES = 96, 32, 4, 2
"""Two rows fill a micro-batch."""


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--ranks", type=int, nargs="+", default=[1, 2])
    options.add_argument("--cases", nargs="+", choices=CASES, default=list(CASES))
    options.add_argument("--json", type=Path)
    options.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    chosen = options.parse_args()
    if chosen.measure:
        folder, case, out = chosen.measure
        measure(Path(folder), case, Path(out))
        return
    with TemporaryDirectory() as folder:
        write_model(Path(folder))
        found = [compared(Path(folder), case, ranks) for ranks in chosen.ranks for case in chosen.cases]
    if chosen.json:
        chosen.json.write_text(json.dumps(found, indent=2) + "\n")


def write_model(folder: Path) -> None:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=49_152,
        hidden_size=576,
        intermediate_size=1_536,
        num_hidden_layers=30,
        num_attention_heads=9,
        num_key_value_heads=3,
        tie_word_embeddings=True,
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):  # no text is read
        (folder / name).write_text("{}")


def compared(folder: Path, case: str, ranks: int) -> dict[str, Any]:
    """Run one case in processes of its own; print and return both figures."""
    out = folder / "found.json"
    torchrun = ["-m", "torch.distributed.run", "--nproc-per-node", str(ranks), "--rdzv-backend", "c10d"]
    torchrun += ["--rdzv-endpoint", "127.0.0.1:0", "--local-addr", "127.0.0.1"]
    module = ["-m", "benchmarks.memory", "--measure", str(folder), case, str(out)]
    command = [sys.executable, *(torchrun if ranks > 1 else []), *module]
    subprocess.run(command, check=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    found: dict[str, Any] = json.loads(out.read_text())
    ratio = found["estimated"] / found["peak"]
    print(f"{ranks} rank(s), {case}: estimated {found['estimated'] / 1e6:,.0f} MB, {ratio:.2f} of the peak", flush=True)
    return {"ranks": ranks, "case": case, **found, "estimate_to_peak": ratio}


def measure(folder: Path, case: str, out: Path) -> None:
    """One rank of one case."""
    torch.set_num_threads(1)
    ranks = ALONE
    if "RANK" in os.environ:
        dist.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo")
        ranks = joined(dist.get_world_size())
    spec, rows = spec_of(folder, case), drawn(ROWS * ranks.number)
    process = resident("VmRSS")
    learner = Learner(spec, folder, ranks)
    load_peak = resident("VmHWM")
    Path("/proc/self/clear_refs").write_text("5")  # the peak is counted anew
    for batch in range(BATCHES):
        learner.train_batch(rows, batch)
    peak = torch.cuda.max_memory_reserved() if torch.cuda.is_available() else resident("VmHWM")
    tokens = 2 * (PROMPT + RESPONSE)
    parameters = sum(weight.numel() for name, weight in learner.model.named_parameters() if "lora_" not in name)
    needs = learner_memory(spec, decoder_of(learner.model, parameters), ranks.count, Load(tokens, 2 * RESPONSE))
    if ranks.leads:
        figures = {"states": needs.states, "activations": needs.activations, "gathered": needs.gathered}
        figures["freed"] = needs.freed
        measured = {"process": process, "load_peak": load_peak, "peak": peak, "load_average": os.getloadavg()}
        out.write_text(json.dumps({"estimated": needs.peak + PROCESS_BYTES, **figures, **measured}))
    if ranks is not ALONE:
        dist.destroy_process_group()


def spec_of(folder: Path, case: str) -> JobSpec:
    wanted = CASES[case]
    return JobSpec.model_validate(
        {
            "model": {"model": str(folder), **wanted.get("model", {})},
            "environment": {"max_prompt_tokens": PROMPT},
            "rollout": {"max_completion_length": RESPONSE},
            "algorithm": {"beta": wanted["beta"]},
            "training": {
                "microbatch_tokens": 2 * (PROMPT + RESPONSE),
                "minibatches": 1,
                **wanted.get("training", {}),
            },
        }
    )


def drawn(number: int) -> list[Row]:
    draw = random.Random(0)

    def ids(length: int) -> list[int]:
        return [draw.randrange(3, 49_000) for _ in range(length)]

    unsampled = ((-10.8,) * RESPONSE, (-1,) * RESPONSE)
    return [Row(lone_turn(ids(PROMPT), ids(RESPONSE)), *unsampled, draw.gauss(0, 1), "g") for _ in range(number)]


def resident(name: str) -> int:
    """Bytes of `VmRSS` or `VmHWM` of this process."""
    lines = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    return int(lines[name].split()[0]) * 1024


if __name__ == "__main__":
    main()
