"""TRL's side of `benchmarks/learner.py --against`: runs in TRL's own environment and imports nothing of ours.

    python benchmarks/trl_update.py REQUEST.json ANSWER.json

The update is TRL's: its trainer's `_compute_loss` on rows padded as its generation batch is, and before several
optimizer steps its own pass for the old log-probabilities. Sampling, rewards and logging take no part.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer
from trl import GRPOConfig, GRPOTrainer


def main() -> None:
    """Time each setting of each case: CPU seconds per repetition."""
    request = json.loads(Path(sys.argv[1]).read_text())
    torch.set_num_threads(1)
    answer = {
        name: {str(size): timed(request, case, size) for size in request["microbatch_rows"]}
        for name, case in request["cases"].items()
    }
    Path(sys.argv[2]).write_text(json.dumps(answer))


def timed(request: dict[str, Any], case: dict[str, Any], size: int) -> list[float]:
    """CPU seconds of `repetitions` updates after one to warm up."""
    with TemporaryDirectory() as folder:
        trainer = trainer_of(request, folder, case["steps"])
        batch, seconds = padded(case["rows"]), []
        for _ in range(request["repetitions"] + 1):
            start = time.process_time()
            update(trainer, batch, case["steps"], size, request["learning_rate"])
            seconds.append(time.process_time() - start)
    return seconds[1:]


def trainer_of(request: dict[str, Any], folder: str, steps: int) -> Any:
    config = GRPOConfig(
        output_dir=folder,
        beta=0.0,
        loss_type="bnpo",
        num_generations=2,
        per_device_train_batch_size=2,
        steps_per_generation=steps,
        gradient_checkpointing=False,
        use_cpu=True,
        bf16=False,
        report_to=[],
    )
    trainer = GRPOTrainer(
        model=AutoModelForCausalLM.from_pretrained(request["model"], dtype=torch.float32),
        reward_funcs=lambda completions, **_: [0.0] * len(completions),
        args=config,
        train_dataset=Dataset.from_dict({"prompt": ["w1", "w2"]}),
        processing_class=AutoTokenizer.from_pretrained(request["model"]),
    )
    trainer.current_gradient_accumulation_steps = 1
    trainer.optimizer = torch.optim.AdamW(trainer.model.parameters(), lr=request["learning_rate"], fused=True)
    trainer.model.train()
    return trainer


def padded(rows: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
    """Prompts padded on the left and completions on the right, to the longest of the batch."""
    longest = [max(len(row[part]) for row in rows) for part in ("prompt", "response")]

    def column(part: str, width: int, *, left: bool) -> tuple[torch.Tensor, torch.Tensor]:
        ids, mask = torch.zeros(len(rows), width, dtype=torch.int64), torch.zeros(len(rows), width, dtype=torch.int64)
        for number, row in enumerate(rows):
            at = slice(width - len(row[part]), width) if left else slice(0, len(row[part]))
            ids[number, at], mask[number, at] = torch.tensor(row[part]), 1
        return ids, mask

    prompt, completion = column("prompt", longest[0], left=True), column("response", longest[1], left=False)
    names = ("prompt_ids", "prompt_mask", "completion_ids", "completion_mask")
    advantages = torch.tensor([row["advantage"] for row in rows])
    return {**dict(zip(names, (*prompt, *completion), strict=True)), "advantages": advantages}


def update(trainer: Any, batch: dict[str, torch.Tensor], steps: int, size: int, rate: float) -> None:
    rows = len(batch["advantages"])
    order = torch.randperm(rows)
    shuffled = {name: column[order] for name, column in batch.items()}
    if steps > 1:
        shuffled["old_per_token_logps"] = old_logprobs(trainer, shuffled, size)
    for part in torch.arange(rows).tensor_split(steps):
        pieces = part.split(size)
        total = shuffled["completion_mask"][part].sum()
        for piece in pieces:
            inputs = {name: column[piece] for name, column in shuffled.items()}
            share = inputs["completion_mask"].sum() / total
            (trainer._compute_loss(trainer.model, inputs) * share).backward()
        torch.nn.utils.clip_grad_norm_(trainer.model.parameters(), 1.0)
        trainer.optimizer.step()
        trainer.optimizer.zero_grad()


@torch.no_grad()
def old_logprobs(trainer: Any, batch: dict[str, torch.Tensor], size: int) -> torch.Tensor:
    ids = torch.cat([batch["prompt_ids"], batch["completion_ids"]], dim=1)
    mask = torch.cat([batch["prompt_mask"], batch["completion_mask"]], dim=1)
    found = trainer._get_per_token_logps_and_entropies(
        trainer.model, ids, mask, batch["completion_ids"].size(1), batch_size=size
    )
    logprobs: torch.Tensor = found[0]
    return logprobs


if __name__ == "__main__":
    main()
