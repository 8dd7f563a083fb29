"""Takes a small random model of each architecture through everything that a job does with a model.

    python -m tests.models.matrix [--vllm] [--write] [KIND ...]

Each is written as `save_pretrained` writes it, loaded, sampled and trained over three versions; each version is
published, verified and served, and the engine's log-probabilities are compared with a plain forward pass; the learner
is saved and resumed to the same bits, and the export is read again by transformers. `--vllm` serves with vLLM on a CPU
too, `--write` puts the table into docs/models.md. Exit status 1: one did not give what it must.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor
from transformers import AutoModelForCausalLM, PreTrainedModel

from gigpo_core import lone_turn
from services.contracts.arrays import pack_int32, unpack_float32, unpack_int32
from services.contracts.job import JobSpec
from services.contracts.policy import PolicyManifest
from services.contracts.sampling import Prompt, SampledTokens, Sampling
from services.inference.engine import Engine, EngineError, WrongWeights
from services.inference.probe import wrong_weights
from services.inference.transformers_engine import TransformersEngine
from services.inference.transformers_steps import way_of
from services.inference.vllm_engine import VllmEngine, VllmSettings
from services.trainer.learner.errors import LearnerError
from services.trainer.learner.learner import Learner
from services.trainer.learner.rows import Row
from services.trainer.replicas.publish import base_sha
from tests.models.architectures import ARCHITECTURES, POSITIONS, Architecture, tokenizer
from tests.models.table import Result, row_of, write_table

ROOT = Path(__file__).parents[2]
VLLM_PYTHON = ROOT / ".venv-vllm" / "bin" / "python"
VERSIONS = 3
EXACT = 1e-5
"""Largest difference of a token's log-probability between engine and plain forward pass, float32, nats."""
NEAR = 1e-4
"""The same for vLLM, whose kernels sum in another order."""
SAMPLING = Sampling(temperature=1.0, max_tokens=12, stop_token_ids=(0,))
TEXTS = ("go north", "write the letters of the room 0123456789", "take the key", "<action>open the door</action>")


class Odd(Exception):
    """A step that did not give what it must; says which."""


@dataclass
class Course:
    """The results of a training run: entry v belongs to version v."""

    rows: list[list[Row]] = field(default_factory=list)
    manifests: list[PolicyManifest] = field(default_factory=list)
    states: list[dict[str, Tensor]] = field(default_factory=list)
    difference: float = 0.0


def examined(architecture: Architecture, folder: Path, *, vllm: bool = False) -> Result:
    """Take it through everything.

    Raises:
        Odd: something is wrong with a model that was not refused.
    """
    base = architecture.write(folder / "base")
    try:
        learner = Learner(spec_of(base), base)
    except LearnerError as error:
        return Result(architecture.kind, refused=str(error).replace(f"{base}: ", ""))
    course = asyncio.run(_trained(learner, TransformersEngine(folder), folder))
    if not course.difference <= EXACT:
        raise Odd(f"log-probabilities differ by {course.difference:.1e}, want at most {EXACT:g}")
    _resumed(learner, course.rows[-1], folder)
    _read_again(learner, folder)
    notes = tuple(filter(None, (_recomputed(base, course.rows[0]), _slow_way(learner.model))))
    served = asyncio.run(_served_by_vllm(learner.model, course, folder)) if vllm and architecture.vllm else ""
    return Result(architecture.kind, type(learner.model).__name__, course.difference, served, notes)


def spec_of(base: Path, *, gradient_checkpointing: bool = False) -> JobSpec:
    """A small job on the model."""
    document = {
        "model": {"model": str(base)},
        "environment": {"max_prompt_tokens": POSITIONS // 2},
        "algorithm": {"advantage_estimator": "gigpo", "beta": 0.0},
        "rollout": {"max_completion_length": 16},
        "inference": {"engine": "transformers"},
        "training": {
            "learning_rate": 1e-2,
            "minibatches": 2,
            "total_batches": VERSIONS,
            "gradient_checkpointing": gradient_checkpointing,
        },
    }
    return JobSpec.model_validate(document)


async def _trained(learner: Learner, engine: Engine, folder: Path) -> Course:
    """Train the versions, each on what the engine samples with the one before; serve the last one too."""
    course = Course()
    try:
        for version in range(VERSIONS + 1):
            course.manifests.append(_published(learner, version, folder))
            course.states.append({name: tensor.clone() for name, tensor in learner.model.state_dict().items()})
            rows, difference = await _served(engine, course.manifests[-1], learner.model)
            course.difference = max(course.difference, difference)
            if version < VERSIONS:
                if version == VERSIONS - 1:
                    learner.save(folder / "state")
                learner.train_batch(rows, version)
                course.rows.append(rows)
    finally:
        await engine.stop()
    return course


async def _served(engine: Engine, manifest: PolicyManifest, model: PreTrainedModel) -> tuple[list[Row], float]:
    """Rows that the engine samples with the version, and how far their log-probabilities are from the model's."""
    if manifest.version == 0:
        await engine.start(manifest)
    else:
        await engine.update(manifest)
    if wrong := await wrong_weights(engine, manifest):
        raise WrongWeights(wrong)
    prompts = [tokenizer().encode(text).ids for text in TEXTS]
    found: dict[int, SampledTokens] = {}
    wanted = [Prompt(pack_int32(ids), seed) for seed, ids in enumerate(prompts)]
    async for outcomes in engine.generate(wanted, SAMPLING):
        for index, outcome in outcomes:
            if not isinstance(outcome, SampledTokens):
                raise Odd(f"a prompt is refused: {outcome.reason}")
            found[index] = outcome
    rows = [_row(prompts[index], one, 1.0 - 2.0 * (index % 2)) for index, one in sorted(found.items())]
    return rows, max(_difference(model, row) for row in rows)


def _row(prompt: list[int], one: SampledTokens, advantage: float) -> Row:
    response, logprobs = unpack_int32(one.response_ids), unpack_float32(one.logprobs)
    return Row(lone_turn(prompt, response), tuple(logprobs), tuple(unpack_int32(one.versions)), advantage, "g")


@torch.no_grad()
def _difference(model: Any, row: Row) -> float:
    logits = model(input_ids=torch.tensor([[*row.prompt_ids, *row.response_ids]]), use_cache=False).logits[0]
    table = torch.log_softmax(logits[len(row.prompt_ids) - 1 : -1].double(), dim=1)
    wanted = table.gather(1, torch.tensor(row.response_ids)[:, None])[:, 0]
    return float((wanted - torch.tensor(row.rollout_logprobs, dtype=torch.float64)).abs().max())


def _published(learner: Learner, version: int, folder: Path) -> PolicyManifest:
    path = folder / f"v{version}"
    return PolicyManifest(
        job_id="matrix",
        version=version,
        base=str(learner.folder),
        base_sha=base_sha(learner.folder),
        path=str(path),
        files=learner.save_policy(path),
        engine="transformers",
        max_model_len=learner.spec.max_model_len,
        probe=learner.probe(),
    )


def _resumed(learner: Learner, last: list[Row], folder: Path) -> None:
    again = Learner(learner.spec, learner.folder)
    again.load(folder / "state")
    again.train_batch(last, VERSIONS - 1)
    for (name, wanted), got in zip(learner.model.state_dict().items(), again.model.state_dict().values(), strict=True):
        if not torch.equal(wanted, got):
            raise Odd(f"a resumed learner has another {name}")


def _read_again(learner: Learner, folder: Path) -> None:
    learner.export(folder / "final")
    if names(folder / "final") != names(learner.folder):
        raise Odd(f"the export has other tensors: {sorted(names(folder / 'final') ^ names(learner.folder))[:3]}")
    auto: Any = AutoModelForCausalLM
    attention = learner.model.config._attn_implementation
    model, report = auto.from_pretrained(folder / "final", attn_implementation=attention, output_loading_info=True)
    if any(report.values()):
        raise Odd(f"transformers reads the export with {report}")
    ids = torch.tensor([tokenizer().encode(TEXTS[1]).ids])
    whole: Any = learner.model
    with torch.no_grad():
        if not torch.equal(model.eval()(input_ids=ids).logits, whole(input_ids=ids).logits):
            raise Odd("the export gives other logits")


def names(folder: Path) -> set[str]:
    """The tensors' names in a model folder."""
    found: set[str] = set()
    for file in folder.glob("*.safetensors"):
        with safe_open(file, "pt") as opened:
            found |= set(opened.keys())
    return found


def _recomputed(base: Path, rows: list[Row]) -> str:
    """Why gradient_checkpointing is refused; empty: one batch gives the weights that it gives without."""
    try:
        learners = [Learner(spec_of(base, gradient_checkpointing=again), base) for again in (True, False)]
    except LearnerError as error:
        return str(error)
    metrics = [learner.train_batch(rows, 0) for learner in learners]
    if metrics[0] != metrics[1]:
        raise Odd("gradient_checkpointing changes what a batch does")
    return ""


def _slow_way(model: PreTrainedModel) -> str:
    """How the transformers engine samples where that is not the fastest way."""
    way = way_of(model)
    if way.cache is None:
        return "the transformers engine passes over the whole sequence for each token"
    return "" if way.pads else "the transformers engine takes equally long prompts together"


async def _served_by_vllm(model: PreTrainedModel, course: Course, folder: Path) -> str:
    """The largest difference over the versions, with an update back to an earlier one; or why it serves none."""
    engine = VllmEngine(VllmSettings(python=VLLM_PYTHON, data_dir=folder, log=folder / "vllm.log"))
    largest = 0.0
    try:
        for version in (*range(VERSIONS + 1), 1):
            model.load_state_dict(course.states[version])
            largest = max(largest, (await _served(engine, course.manifests[version], model))[1])
    except EngineError as error:
        return f"refused: {error}"
    finally:
        await engine.stop()
    if not largest <= NEAR:
        raise Odd(f"log-probabilities of vLLM differ by {largest:.1e}, want at most {NEAR:g}")
    return f"{largest:.0e}"


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("kinds", nargs="*", metavar="KIND", help="all by default")
    parser.add_argument("--vllm", action="store_true", help="serve a dozen of them with vLLM too")
    parser.add_argument("--write", action="store_true", help="put the table into docs/models.md")
    options = parser.parse_args(words)
    torch.set_num_threads(1)
    results, odd = [], 0
    for kind in options.kinds or ARCHITECTURES:
        with TemporaryDirectory() as folder:
            try:
                results.append(examined(ARCHITECTURES[kind], Path(folder), vllm=options.vllm))
            except (Odd, EngineError) as error:
                odd += 1
                _say(f"{kind}: {error}")
            else:
                _say(row_of(results[-1]))
    _say(f"{len(results)} architectures as they should be, {odd} odd")
    if options.write and not odd and not options.kinds:
        write_table(results)
    return 1 if odd else 0


def _say(line: str) -> None:
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
