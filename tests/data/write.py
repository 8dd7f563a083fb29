"""Write today's formats as test data: python tests/data/write.py tests/data/v<N>

Run it once with the code that is about to be replaced, before a version is raised, and commit the folder:
`tests/unit/contracts/test_earlier_versions.py`, `tests/unit/trainer/test_earlier_checkpoints.py` and
`tests/unit/trainer/test_earlier_records.py` read every one.
"""

from __future__ import annotations

import hashlib
import math
import sys
from array import array
from pathlib import Path
from tempfile import TemporaryDirectory

from gigpo_core import lone_turn
from services.contracts.archive import FOLDER, ArchiveName, packed
from services.contracts.arrays import pack_float32, pack_int32
from services.contracts.job import JobSpec, ScratchModel
from services.contracts.jobfolder import JobFolder
from services.contracts.messages import (
    CompleteGroup,
    Episode,
    Generated,
    GenerateItem,
    GenerateReply,
    GenerateRequest,
    JobEvent,
    Message,
    OpenedGroup,
    ScoredGroup,
    Step,
    encode,
)
from services.contracts.summary import EvaluationResult
from services.trainer.batch.metrics import append_record
from services.trainer.learner.learner import Learner
from services.trainer.learner.policy import build_scratch
from services.trainer.learner.rows import Row
from services.trainer.phases.evaluation import write_results
from services.trainer.storage.checkpoint import PROGRESS, STATE, write_hashes
from services.trainer.storage.progress import Progress, Totals, encode_progress

SMALLER_THAN_A_JOB_MAY = ScratchModel.model_construct(
    hidden_size=4, intermediate_size=4, num_hidden_layers=1, num_attention_heads=1, max_position_embeddings=32
)
"""Write files of a few kB."""
SPEC = JobSpec.model_validate(
    {
        "model": {"scratch": {"max_position_embeddings": 32}},
        "environment": {"max_prompt_tokens": 16},
        "algorithm": {"beta": 0.0},
        "rollout": {"max_completion_length": 4},
        "training": {"minibatches": 1, "total_batches": 10},
    }
)
GROUP = "t00000003"
TOKENS = {"response_ids": pack_int32([5, 1]), "logprobs": pack_float32([-0.5, -0.25]), "versions": pack_int32([2, 3])}


def step(index: int) -> Step:
    """Every field told apart from the others."""
    return Step(
        step_index=index, prompt_ids=pack_int32([7, 8, 9]), **TOKENS, reward=0.25 * index, anchor_key=b"a" * 16,
        state_key=bytes([index]) * 16, anchor="at 1 .", action=f"go {index}", action_valid=index != 1,
        finish_reason="length" if index else "stop", rewards=(0.5, 1.0),
    )  # fmt: skip


EPISODES = [
    Episode(
        group_id=GROUP, episode_id=f"{GROUP}/{k}", k=k, attempt=1, task="put apple in box",
        steps=[step(index) for index in range(2)], won=k == 0, score=1.0 - k, terminated=k == 0, truncated=k == 1,
        worker="w", generate_s=1.5, env_s=0.5, cut_prompts=1,
    )
    for k in range(2)
]  # fmt: skip


def scored(episodes: list[bytes]) -> ScoredGroup:
    """Score a group of four steps."""
    columns = {
        name: array("d", [start + row for row in range(4)]).tobytes()
        for start, name in enumerate(("advantage", "episode_advantage", "step_advantage", "step_return"))
    }
    return ScoredGroup(
        group_id=GROUP, purpose="train", cursor=3, **columns, step_group=array("q", [0, 1, 0, 2]).tobytes(),
        episodes_sha=hashlib.sha256(b"".join(episodes)).hexdigest(), diagnostics={"steps": 4.0},
    )  # fmt: skip


def messages() -> list[Message]:
    """One of every kind."""
    return [
        OpenedGroup(
            job_id="j", group_id=GROUP, purpose="train", cursor=3, task_seed=7, split="train", n=2, min_version=2,
            task_view="shuffled", sentence_seed=9, environment_kwargs={"size": [3, 4]}, max_turns=5,
        ),
        EPISODES[0],
        CompleteGroup(job_id="j", group_id=GROUP, purpose="train", cursor=3),
        scored([encode(episode) for episode in EPISODES]),
        GenerateRequest(
            job_id="j", reply_to="{rollout:w}:replies", min_version=2, temperature=1.0, max_tokens=4,
            items=[GenerateItem(item_id="i", prompt_ids=pack_int32([7, 8, 9]), seed=11)], stop_token_ids=[1],
            deadline_unix_s=1e9,
        ),
        GenerateReply(
            replica="r",
            results=[
                Generated(item_id="i", **TOKENS, finish_reason="stop"),
                Generated.refusal("k", "too long", retryable=False),
            ],
        ),
        JobEvent(kind="metrics", at_unix_s=1.5, data={"success": 0.5}),
    ]  # fmt: skip


def write_messages(folder: Path) -> None:
    """`messages/<kind>.msgpack`, one of each."""
    (folder / "messages").mkdir(parents=True)
    for message in messages():
        (folder / "messages" / f"{type(message).__name__}.msgpack").write_bytes(encode(message))


def write_archive(folder: Path) -> None:
    """`rollouts/batch-00003...`: one group of two episodes of two steps."""
    payloads = [encode(episode) for episode in EPISODES]
    path = folder / FOLDER / str(ArchiveName(3))
    path.parent.mkdir()
    path.write_bytes(packed([(encode(scored(payloads)), payloads)]))


def write_checkpoint(folder: Path) -> None:
    """`checkpoints/b000002`: after two batches."""
    checkpoint = folder / "checkpoints" / "b000002"
    with TemporaryDirectory() as made:
        base = Path(made) / "base"
        build_scratch(SMALLER_THAN_A_JOB_MAY, ["go", "take"], 0, base)
        save_checkpoint(Learner(SPEC, base), checkpoint)
    write_hashes(checkpoint)


def save_checkpoint(learner: Learner, checkpoint: Path) -> None:
    """Train two batches and write everything but the hashes."""
    rows = [Row(lone_turn((3, 4), (3 + k, 1)), (-1.5, -1.5), (-1, -1), 1.0 - 2 * k, GROUP) for k in range(2)]
    for batch in range(2):
        learner.train_batch(rows, batch)
    learner.export(checkpoint)
    learner.save(checkpoint / STATE)
    progress = Progress(
        batch=2, warmstarted=True, next_cursor=9, lost=1, waiting=[7, 8], metrics_lines=2, started_unix_s=1e9,
        phases_s={"training": 1.5}, totals=Totals(env_steps=8, optimizer_steps=2), ledger={"opened": 9},
    )  # fmt: skip
    (checkpoint / STATE / PROGRESS).write_bytes(encode_progress(progress))


def write_records(folder: Path) -> None:
    """`metrics.jsonl` of two batches and `evaluations.json` of two evaluations."""
    for batch in range(2):
        figures = {"success": 0.25 * batch, "loss": -0.5, "kl": 0.0}
        append_record(
            folder / "metrics.jsonl", {"at_unix_s": 1e9 + batch, "batch": batch, "version": batch + 1, **figures}
        )
    result = EvaluationResult(
        label="before", version=0, episodes=4, success=0.25, standard_error=math.sqrt(0.25 * 0.75 / 4),
        return_mean=0.25, length_mean=2.0, invalid_share=0.125, split="test", mismatch_kl=1e-4,
    )  # fmt: skip
    baseline = result.model_copy(update={"label": "random_actor", "mismatch_kl": None})
    write_results(JobFolder(folder), [result, baseline])


def main() -> None:
    """All of it, into a new folder."""
    folder = Path(sys.argv[1])
    write_messages(folder)
    write_archive(folder)
    write_checkpoint(folder)
    write_records(folder)


if __name__ == "__main__":
    main()
