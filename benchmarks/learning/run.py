"""One run: warm start, batches, evaluations, as a job's trainer has them; resumable from its folder."""

from __future__ import annotations

import asyncio
import json
import math
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch

from benchmarks.learning.ports import LocalEnvironments, LocalInference, LocalLedger
from services.advantage.service import advantage_config, finished_group, score_groups
from services.contracts.environment import EnvironmentInfo
from services.contracts.job import JobSpec
from services.contracts.messages import OpenedGroup, encode
from services.contracts.policy import PolicyManifest
from services.contracts.summary import EvaluationResult
from services.env.edge.translation import environment_message
from services.env.workers.registry import Registry, known_environments
from services.inference.transformers_model import LoadedModel
from services.rollout.playbook import make_playbook
from services.rollout.player import Player
from services.rollout.tokens import load_tokens
from services.trainer.batch.batches import Batch, training_group
from services.trainer.batch.metrics import Timing, append_record, batch_record, usual_length
from services.trainer.batch.second_stage import scored_together
from services.trainer.groups.payloads import Payload, payload_of
from services.trainer.job.restore import build_base
from services.trainer.learner.learner import Learner
from services.trainer.learner.rows import rows_of, supervised_turns
from services.trainer.learner.scratch import build_scratch
from services.trainer.learner.second_stage import rescored
from services.trainer.phases.evaluation import Label, evaluation_result, panel, panel_groups, played_panel
from services.trainer.phases.warmstart import check_gate, random_group

JOB = "harness"
LAST_DIGIT = 1e-7
"""The last digit of a float32, as a share of it."""


@dataclass
class Position:
    """How far a run is, as its folder has it."""

    batch: int = 0
    warmstarted: bool = False
    cpu_s: dict[str, float] = field(default_factory=dict)
    """CPU seconds by phase: warmstart, rollout, training, evaluation."""
    env_steps: int = 0
    tokens: int = 0
    """Sampled for training."""
    evaluations: list[dict[str, Any]] = field(default_factory=list)


class Run:
    """One seed of one spec.

    Args:
        folder: of this run alone; what is there is gone on with.
        registry: the environments; None: all that are installed.
        perturb: seed of a change of the weights' last digits after the warm start, as another processor would make.

    Raises:
        SystemExit: the spec asks for something that only services have.
    """

    def __init__(
        self, spec: JobSpec, folder: Path, registry: Registry | None = None, perturb: int | None = None
    ) -> None:
        if spec.algorithm.dynamic_sample or spec.rollout.max_staleness:
            raise SystemExit("the harness trains every group on-policy: want dynamic_sample: false, max_staleness: 0")
        if spec.model.tuner_type != "full" or spec.model.torch_dtype != "float32":
            raise SystemExit("the harness trains whole policies: want tuner_type: full, torch_dtype: float32")
        self.spec, self.folder, self._perturb = spec, folder, perturb
        registry = registry or Registry(known_environments({}))
        entry = registry.entry(spec.environment.environment)
        if entry.unavailable_reason:
            raise SystemExit(f"environment {entry.id}: {entry.unavailable_reason}")
        self._environment = environment = EnvironmentInfo.listed(environment_message(entry))
        folder.mkdir(parents=True, exist_ok=True)
        build_base(spec, environment, folder / "base", build_scratch)
        self.learner = Learner(spec, folder / "base")
        self._model = LoadedModel(self._first_version(), torch_threads=torch.get_num_threads())
        self._ledger = LocalLedger()
        playbook = make_playbook(JOB, spec, environment, load_tokens(folder / "base"))
        inference = LocalInference(self._model, alone=spec.inference.deterministic)
        self._player = Player(playbook, self._ledger, LocalEnvironments(registry), inference, JOB)
        self.position = self._restored()

    @property
    def curve(self) -> list[dict[str, Any]]:
        """The record of each batch; its fields are those of `services.contracts.metrics`."""
        path = self.folder / "metrics.jsonl"
        return [json.loads(line) for line in path.read_text("utf-8").splitlines()] if path.exists() else []

    def run(self, until: int | None = None, env_steps: int | None = None) -> Position:
        """Go on to the end, or to a batch.

        Args:
            env_steps: the end is the first batch after which so many steps were trained on, where that is earlier.
        """
        spec, end = self.spec, self.spec.training.total_batches
        allowed = math.inf if env_steps is None else env_steps
        if spec.model.warmstart is not None and not self.position.warmstarted:
            self._warm_start()
        if self.position.batch == 0 and self._perturb is not None:
            self._change_last_digits(self._perturb)
        self._serve()
        if self.position.batch == 0:
            before = self._evaluate("before")
            if spec.model.warmstart is not None:
                check_gate(spec.model.warmstart, before)
        while self.position.batch < min(end, end if until is None else until) and self.position.env_steps < allowed:
            every, batch = spec.evaluation.eval_every, self.position.batch
            if every and batch and batch % every == 0:
                self._evaluate("during")
            self._train()
            if self.position.batch % spec.checkpoint.checkpoint_every == 0:
                self.save()
        if end and (self.position.batch == end or self.position.env_steps >= allowed):
            self._evaluate("after")
        self.save()
        return self.position

    def save(self) -> None:
        """Make the position durable; a run that is killed goes on from the newest one."""
        place, number = self.folder / f"state-{self.position.batch}", self.position.batch
        if not place.exists():
            unfinished = place.with_suffix(".unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            self.learner.save(unfinished)
            unfinished.rename(place)
        document = self.folder / "position.json.unfinished"
        document.write_text(json.dumps(vars(self.position), indent=1))
        document.rename(self.folder / "position.json")
        for other in self.folder.glob("state-*"):
            if other.name != f"state-{number}":
                shutil.rmtree(other)

    def _restored(self) -> Position:
        path = self.folder / "position.json"
        if not path.exists():
            (self.folder / "metrics.jsonl").unlink(missing_ok=True)
            return Position()
        position = Position(**json.loads(path.read_text()))
        self.learner.load(self.folder / f"state-{position.batch}")
        kept = self.curve[: position.batch]
        (self.folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in kept))
        return position

    @property
    def _session(self) -> Any:
        """The parts of a session that the trainer's functions read."""
        progress = SimpleNamespace(batch=self.position.batch)
        return SimpleNamespace(job=JOB, spec=self.spec, environment=self._environment, progress=progress)

    def _first_version(self) -> PolicyManifest:
        spec = self.spec
        return PolicyManifest(
            job_id=JOB,
            version=0,
            base=str(self.folder / "base"),
            base_sha="",
            path=str(self.folder / "base"),
            files={"model.safetensors": ""},
            engine="transformers",
            torch_dtype=spec.model.torch_dtype,
            max_model_len=spec.max_model_len,
        )

    def _serve(self) -> None:
        """Sample with the learner's weights from now on."""
        self._model.take_weights(self.learner.model.state_dict(), self.position.batch)

    def _play(self, groups: Sequence[OpenedGroup]) -> list[Payload]:
        """The scored groups, in the order given."""

        async def play() -> None:
            async with asyncio.TaskGroup() as playing:
                for group in groups:
                    playing.create_task(self._player.play(group))

        asyncio.run(play())
        finished = []
        for group in groups:
            episodes = self._ledger.episodes.pop(group.group_id)
            payloads = [encode(episodes[k]) for k in sorted(episodes)]
            finished.append((finished_group(group.group_id, group.purpose, group.cursor, payloads), payloads))
        scores = score_groups(
            [group for group, _ in finished], advantage_config(self.spec.algorithm, self.spec.rewards)
        )
        return [
            payload_of(group.group_id, encode(scored), payloads)
            for (group, payloads), scored in zip(finished, scores, strict=True)
        ]

    @contextmanager
    def _spending(self, phase: str) -> Iterator[None]:
        start = time.process_time()
        yield
        self.position.cpu_s[phase] = self.position.cpu_s.get(phase, 0.0) + time.process_time() - start

    def _warm_start(self) -> None:
        warmstart = self.spec.model.warmstart
        assert warmstart is not None
        with self._spending("warmstart"):
            payloads: list[Payload] = []
            steps, length = 0, float(self.spec.environment.max_turns)
            while steps < warmstart.warmstart_rows:  # groups go in waves, as the trainer plays them
                first, count = len(payloads), math.ceil((warmstart.warmstart_rows - steps) / length)
                payloads += self._play(
                    [random_group(self._session, warmstart, at) for at in range(first, first + count)]
                )
                steps = sum(len(episode.steps) for payload in payloads for episode in payload.episodes)
                length = max(steps / len(payloads), 1.0)
            turns = supervised_turns([episode for payload in payloads for episode in payload.episodes])
            for _ in self.learner.supervise(turns[: warmstart.warmstart_rows], warmstart):
                pass
        self.position.warmstarted = True
        self.save()

    def _change_last_digits(self, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for weights in self.learner.model.parameters():
                weights.mul_(1 + LAST_DIGIT * torch.randn(weights.shape, generator=generator))

    def _train(self) -> None:
        spec, number = self.spec, self.position.batch
        size, started = spec.rollout.groups_per_batch, time.monotonic()
        with self._spending("rollout"):
            groups = self._play([training_group(self._session, number * size + at) for at in range(size)])
        waited = time.monotonic()
        with self._spending("training"):
            kl = None
            if spec.algorithm.subtracts_kl:
                kl = [self.learner.divergence(rows_of(one.episodes, one.scored)) for one in groups]
            batch = Batch(number, scored_together(groups, spec, rescored, kl), kl)
            rows = [row for group in batch.groups for row in rows_of(group.episodes, group.scored)]
            measured = self.learner.train_batch(rows, number)
        timing = Timing(waited - started, time.monotonic() - waited, 0.0)
        usual = usual_length(spec.rollout, number, self.position.env_steps)
        record = batch_record(batch, measured, timing, spec.rewards.reward_funcs, usual)
        append_record(self.folder / "metrics.jsonl", record)
        self.position.batch += 1
        self.position.env_steps += int(record["env_steps"])
        self.position.tokens += int(record["tokens"])
        self._serve()

    def _evaluate(self, label: Label) -> EvaluationResult:
        chosen = panel(label, self.position.batch, self.spec.environment.task_view)
        for stored in self.position.evaluations:
            if (stored["label"], stored["version"]) == (label, chosen.version):
                return EvaluationResult.model_validate(stored)
        with self._spending("evaluation"):
            groups = panel_groups(self._session, chosen)
            played = self._play(groups)
        episodes = [episode for payload in played for episode in payload.episodes]
        outcome = played_panel(self._session, groups, played)
        result = evaluation_result(chosen, episodes, self.spec.environment.eval_split, played=outcome)
        self.position.evaluations.append(result.model_dump())
        return result
