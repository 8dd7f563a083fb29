"""A group of ranks as the trainer's process uses it: started by torchrun, asked over a socket, killed."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from safetensors.torch import load_file
from torch import Tensor

from services.contracts.job import WarmStart
from services.trainer.errors import RanksLost
from services.trainer.learner.errors import LearnerError, RowsError, StateError
from services.trainer.learner.files import file_hashes
from services.trainer.learner.learner import Learner
from services.trainer.ranks.group import RankGroup
from services.trainer.ranks.learner import LearnerOnRanks
from services.trainer.ranks.torchrun import Meeting
from tests.unit.trainer.learner_cases import guided, job_spec, random_rows, scratch_folder

START_S = 300.0
GONE_S = 60.0
SPEC = job_spec(beta=0.05, minibatches=2, microbatch_tokens=64)


@pytest.fixture
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TRAINER_REDIS_URL", "redis://127.0.0.1:1/0")  # a rank reads the trainer's settings, no more
    return scratch_folder(tmp_path / "base")


@contextmanager
def group_of(ranks: int, meeting: Meeting | None = None) -> Iterator[RankGroup]:
    group = RankGroup(ranks, START_S, meeting)
    try:
        yield group
    finally:
        processes = family(group)
        group.close()
        assert_gone(processes)


def family(group: RankGroup) -> list[int]:
    """Pids of torchrun and its ranks, by rank."""
    torchrun = group._process.pid
    return [torchrun, *children(torchrun)]


def children(pid: int) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children")
    return [int(one) for one in found.read_text().split()] if found.exists() else []


def assert_gone(pids: list[int]) -> None:
    end = time.monotonic() + GONE_S
    while any(alive(pid) for pid in pids):
        assert time.monotonic() < end, f"still there: {pids}"
        time.sleep(0.1)


def alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_group_answers_as_a_learner_does_and_leaves_no_process(base: Path, tmp_path: Path) -> None:
    here = Learner(SPEC, base)
    with group_of(2) as group:
        there = LearnerOnRanks(group, 0, SPEC, base)
        for one, other in zip(drained(here), drained(there), strict=True):
            assert other == pytest.approx(one, abs=1e-5)
        for batch in range(2):
            rows = guided(random_rows(9, seed=batch)) if batch else random_rows(9)
            assert there.train_batch(rows, batch) == pytest.approx(here.train_batch(rows, batch), abs=1e-5)
        assert there.optimizer_steps == here.optimizer_steps == 4
        assert there.mismatch(rows) == pytest.approx(here.mismatch(rows), abs=1e-5)
        assert there.divergence(rows) == pytest.approx(here.divergence(rows), abs=1e-5)
        probe, probe_there = here.probe(), there.probe()
        assert probe is not None
        assert probe_there is not None
        assert probe_there.response_ids == probe.response_ids
        assert there.save_policy(tmp_path / "v") == file_hashes(tmp_path / "v")
        there.export(tmp_path / "export")
        assert {path.name for path in (tmp_path / "export").iterdir()} >= {"config.json", "model.safetensors"}
        refusals(there, tmp_path)
        second = LearnerOnRanks(group, 1, SPEC, tmp_path / "export")
        there.save(tmp_path / "state")
        second.load(tmp_path / "state")
        assert second.optimizer_steps == 4
        there.close()
        assert second.train_batch(rows, 2)["optimizer_steps"] == 6


def drained(learner: Learner | LearnerOnRanks) -> tuple[list[float], dict[str, float]]:
    """Likelihoods and report of a warm start of three steps."""
    turns = [row.turn for row in random_rows(6)]
    steps = learner.supervise(turns, WarmStart(warmstart_steps=3, warmstart_batch_size=4))
    found = []
    while True:
        try:
            found.append(next(steps)[1])
        except StopIteration as end:
            return found, end.value


def refusals(there: LearnerOnRanks, tmp_path: Path) -> None:
    """Errors have their kinds and words, and the group goes on."""
    with pytest.raises(RowsError, match="want the rows of a batch, got none"):
        there.train_batch([], 2)
    with pytest.raises(StateError, match="no saved learner"):
        there.load(tmp_path / "nothing")
    with pytest.raises(LearnerError, match="no policy in Hugging Face format"):
        LearnerOnRanks(there._group, 7, SPEC, tmp_path / "nothing")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError) as refused:
        there.save(tmp_path / "file" / "state")
    assert refused.value.filename == str(tmp_path / "file" / "state" / "weights")


KILLED: dict[str, Callable[[list[int]], int]] = {
    "torchrun": lambda pids: pids[0],
    "rank 0": lambda pids: pids[1],
    "rank 1": lambda pids: pids[2],
}


def test_after_a_kill_another_group_trains_the_same_batches_to_the_same_bits(base: Path, tmp_path: Path) -> None:
    trained: list[tuple[dict[str, float], dict[str, Tensor]]] = []
    for who, victim in KILLED.items():
        with group_of(2) as group:
            learner = LearnerOnRanks(group, 0, SPEC, base)
            if not trained:
                learner.train_batch(random_rows(9), 0)
                learner.save(tmp_path / "state")
            else:
                learner.load(tmp_path / "state")
            metrics = learner.train_batch(random_rows(9, seed=1), 1)
            learner.save(tmp_path / who)
            trained.append((metrics, saved_weights(tmp_path / who)))
            processes = family(group)
            os.kill(victim(processes), signal.SIGKILL)
            with pytest.raises(RanksLost, match="one of the 2 ranks"):
                ask_for_ever(learner)
            assert_gone(processes)
    (metrics, weights), *others = trained
    for again, weights_again in others:
        assert again == metrics
        assert all(weights_again[name].equal(weight) for name, weight in weights.items())


def saved_weights(state: Path) -> dict[str, Tensor]:
    """Each rank's pieces."""
    return {f"{file.name}/{name}": one for file in state.glob("weights/*") for name, one in load_file(file).items()}


def is_free(port: int) -> bool:
    """Whether the port is free, among those that the system gives to nobody who does not name one."""
    try:
        socket.create_server(("127.0.0.1", port)).close()
    except OSError:
        return False
    return True


@contextmanager
def node_one(address: str, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The process of a second machine, as a pod runs it."""
    told = {"RANKS": "2", "NODES": "2", "NODE": "1", "RENDEZVOUS": address}
    variables = os.environ | {f"TRAINER_{name}": value for name, value in told.items()}
    command = [sys.executable, "-m", "services.trainer.ranks.node"]
    with log.open("wb") as out, subprocess.Popen(command, env=variables, stdout=out, stderr=out) as process:
        try:
            yield process
        finally:
            process.terminate()
            assert process.wait(GONE_S) == 0


def test_ranks_of_two_nodes_train_as_one_does_and_meet_again_after_a_loss(base: Path, tmp_path: Path) -> None:
    address = f"127.0.0.1:{next(filter(is_free, range(20_000 + os.getpid() % 10_000, 32_000)))}"
    here, rows = Learner(SPEC, base), random_rows(9)
    metrics = here.train_batch(rows, 0)
    with node_one(address, tmp_path / "log") as node:
        for kill in (True, False):
            with group_of(2, Meeting(address, 0, 2)) as group:
                assert len(family(group)) == 2, "torchrun and one rank: the other is on the other node"
                there = LearnerOnRanks(group, 0, SPEC, base)
                assert there.train_batch(rows, 0) == pytest.approx(metrics, abs=1e-5)
                if kill:
                    (torchrun,) = children(node.pid)
                    os.kill(torchrun, signal.SIGKILL)
                    with pytest.raises(RanksLost, match="one of the 2 ranks"):
                        ask_for_ever(there)


def ask_for_ever(learner: LearnerOnRanks) -> None:
    while True:
        learner.probe()
