"""A small job through everything that is real: gigpo command, API, Celery, vLLM, gRPC environments, Redis, SQL."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
import torch
import yaml
from peft import PeftModel
from transformers import AutoModelForCausalLM, AutoTokenizer

from services.contracts.archive import read_archive
from services.contracts.arrays import unpack_int32
from services.contracts.messages import Episode, ScoredGroup

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
GIGPO = [sys.executable, "-m", "gigpo.client.main"]
BATCHES, GROUPS, EPISODES = 3, 4, 4


def spec(example: str = "default") -> dict[str, object]:
    """An example's job, cut to seconds; the gate is opened, since so short a warm start teaches little."""
    document = yaml.safe_load((ROOT / "examples" / f"{example}.yaml").read_text())
    document["model"]["warmstart"].update(warmstart_rows=2_000, warmstart_steps=40, warmstart_max_invalid=1.0)
    document["rollout"].update(groups_per_batch=GROUPS, num_generations=EPISODES, max_staleness=1)
    document["training"].update(total_batches=BATCHES, minibatches=2)
    document["evaluation"] = {"eval_episodes": 16}
    document["checkpoint"].update(checkpoint_every=2)
    return dict(document)


class Platform:
    """One folder with a stack of its own, and the command run in it."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.job_file = folder, folder / "job.yaml"
        self.job_file.write_text(yaml.safe_dump(spec()))
        paths = os.pathsep.join([str(ROOT), str(ROOT / "proto")])
        self.environ = {**os.environ, "PYTHONPATH": paths, "STACK_VLLM_PYTHON": str(ROOT / ".venv-vllm/bin/python")}

    def start(self, *words: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*GIGPO, *words],
            cwd=self.folder,
            env=self.environ,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    def run(self, *words: str, code: int = 0) -> str:
        process = self.start(*words)
        said, _ = process.communicate(timeout=600)
        assert process.returncode == code, said
        return said

    def summary(self, name: str) -> dict[str, object]:
        loaded: dict[str, object] = json.loads((self.folder / "runs" / name / "summary.json").read_text())
        return loaded

    def batches(self, job_id: str) -> list[tuple[ScoredGroup, list[Episode]]]:
        files = sorted((self.folder / "runs/.platform/jobs" / job_id / "rollouts").glob("batch-*"))
        assert len(files) == BATCHES
        return [group for file in files for group in read_archive(file)]

    def processes(self) -> list[psutil.Process]:
        """Whatever still runs and was told of this folder."""
        return [process for process in psutil.process_iter() if str(self.folder) in _words(process)]


def _words(process: psutil.Process) -> str:
    try:
        return " ".join([*process.cmdline(), *process.environ().values(), process.cwd()])
    except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
        return ""


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A stack that is up, with one finished job `first`; afterwards not one process of it is left."""
    platform = Platform(tmp_path_factory.mktemp("platform"))
    platform.run("up", "--detach")
    try:
        platform.run("train", "job.yaml", "--name", "first")
        yield platform
    finally:
        platform.run("down")
    assert platform.processes() == []


def test_a_job_ends_with_a_balanced_ledger_and_trains_what_was_sampled(platform: Platform):
    summary = platform.summary("first")
    ledger = summary["ledger"]
    assert isinstance(ledger, dict)
    assert summary["state"] == "SUCCEEDED"
    assert (summary["engine"], summary["advantage_estimator"], summary["batches"]) == ("vllm", "gigpo", BATCHES)
    assert ledger["opened"] == ledger["consumed"] + sum(ledger["dropped"].values())
    assert ledger["live"] == 0
    assert summary["trained_tokens"] == summary["sampled_tokens"]
    assert isinstance(summary["mismatch_kl_mean"], float)
    assert summary["mismatch_kl_mean"] < 0.015
    labels = [evaluation["label"] for evaluation in summary["evaluations"]]  # type: ignore[attr-defined]
    assert labels == ["before", "after", "task_hidden", "task_shuffled", "random_actor"]


def test_every_trained_token_carries_a_version_that_was_fresh_enough(platform: Platform):
    groups = platform.batches(str(platform.summary("first")["job_id"]))
    sampled = 0
    for number, (scored, episodes) in enumerate(groups):
        batch = number // GROUPS
        steps = [step for episode in episodes for step in episode.steps]
        assert len(scored.advantage) == 8 * len(steps)
        for step in steps:
            versions = unpack_int32(step.versions)
            assert len(versions) == len(unpack_int32(step.response_ids)) == len(step.logprobs) // 4
            assert all(batch - 1 <= version <= batch for version in versions)
            sampled += len(versions)
    assert sampled == platform.summary("first")["sampled_tokens"]


def test_the_results_are_all_there_and_the_checkpoint_loads(platform: Platform):
    results = platform.folder / "runs" / "first"
    for name in ("summary.json", "metrics.jsonl", "curves.png", "report.html", "spec.yaml"):
        assert (results / name).stat().st_size > 0
    assert len((results / "metrics.jsonl").read_text().splitlines()) == BATCHES
    assert 'src="http' not in (results / "report.html").read_text()
    model = AutoModelForCausalLM.from_pretrained(results / "checkpoint")
    tokenizer = AutoTokenizer.from_pretrained(results / "checkpoint")
    assert model.config.vocab_size == len(tokenizer)
    prompt = tokenizer("put apple in north east . apple here . blocked north . at nothing . act", return_tensors="pt")
    with torch.no_grad():
        assert model(**prompt).logits.isfinite().all()


def test_the_household_example_shares_states_and_is_evaluated_on_the_split_that_it_names(platform: Platform):
    (platform.folder / "household.yaml").write_text(yaml.safe_dump(spec("alfworld")))
    platform.run("train", "household.yaml", "--name", "household")
    summary = platform.summary("household")
    evaluations = summary["evaluations"]
    assert isinstance(evaluations, list)
    assert {evaluation["split"] for evaluation in evaluations} == {"valid_seen"}
    shared = steps = 0
    for _, episodes in platform.batches(str(summary["job_id"])):
        met = Counter(step.anchor_key for episode in episodes for step in episode.steps)
        shared += sum(count for count in met.values() if count > 1)
        steps += met.total()
        for episode in episodes:
            rewards = [step.reward for step in episode.steps]
            assert rewards[:-1] == [0.0] * (len(rewards) - 1)
            assert rewards[-1] == float(episode.won)
    assert shared > steps / 2  # random play of a group meets again in nine steps of ten


def test_an_adapter_is_trained_on_a_finished_policy_and_merged_into_its_checkpoint(platform: Platform):
    first = str(platform.summary("first")["job_id"])
    document = spec()
    document["model"] = {"model": f"job:{first}/final", "tuner_type": "lora", "lora_rank": 4}
    document["training"].update(learning_rate=0.01)  # type: ignore[attr-defined]
    (platform.folder / "lora.yaml").write_text(yaml.safe_dump(document))
    platform.run("train", "lora.yaml", "--name", "lora")
    summary = platform.summary("lora")
    assert (summary["state"], summary["tuner_type"], summary["batches"]) == ("SUCCEEDED", "lora", BATCHES)
    assert isinstance(summary["mismatch_kl_mean"], float)
    assert summary["mismatch_kl_mean"] < 0.015
    folder = platform.folder / "runs/.platform/jobs" / str(summary["job_id"])
    newest = max((folder / "policy").iterdir())
    assert {file.name for file in newest.iterdir()} == {"adapter_model.safetensors", "adapter_config.json"}
    begun = AutoModelForCausalLM.from_pretrained(folder / "base")
    ended = AutoModelForCausalLM.from_pretrained(platform.folder / "runs" / "lora" / "checkpoint")
    adapted = PeftModel.from_pretrained(begun, str(newest))
    ids = torch.arange(12)[None]
    with torch.no_grad():
        wanted = adapted(ids).logits
        assert torch.allclose(ended(ids).logits, wanted, atol=1e-4)
        with adapted.disable_adapter():
            assert not torch.allclose(adapted(ids).logits, wanted, atol=1e-2)


def watched(said: str) -> list[dict[str, object]]:
    """The events that `gigpo watch --json` printed."""
    return [json.loads(line) for line in said.splitlines() if line.startswith("{")]


def test_a_policy_is_watched_beside_its_training_and_after_it(platform: Platform):
    after = watched(platform.run("watch", "first", "--seed", "3", "--json"))
    kinds = [str(event["kind"]) for event in after]
    assert (kinds[0], kinds[-1], kinds.count("began")) == ("waiting", "ended", 1)
    steps = [event["data"] for event in after if event["kind"] == "step"]
    assert len(steps) == kinds.count("state") >= 1

    job_file = platform.folder / "long.yaml"
    document = spec()
    document["training"].update(total_batches=200)  # type: ignore[attr-defined]
    job_file.write_text(yaml.safe_dump(document))
    platform.run("train", str(job_file), "--name", "long", "--no-follow")
    beside = watched(platform.run("watch", "long", "--split", "train", "--json"))
    assert [event["kind"] for event in beside][-1] == "ended"
    job = json.loads(platform.run("jobs", "show", "long", "--json"))
    assert job["state"] == "RUNNING"
    platform.run("jobs", "cancel", "long")
    platform.run("jobs", "follow", "long", code=1)
    ledger = platform.summary("long")["ledger"]
    assert isinstance(ledger, dict)
    assert ledger["opened"] == ledger["consumed"] + sum(ledger["dropped"].values())
    assert not ledger["dropped"].get("infra")


def test_the_same_seed_opens_the_same_groups_and_a_killed_client_kills_no_job(platform: Platform):
    client = platform.start("train", "job.yaml", "--name", "second")
    assert client.stdout is not None
    for line in client.stdout:
        if "phase warmstart" in line:
            break
    client.send_signal(signal.SIGKILL)
    client.communicate()
    deadline = time.monotonic() + 300
    while (job := json.loads(platform.run("jobs", "show", "second", "--json")))["state"] not in ("SUCCEEDED", "FAILED"):
        assert time.monotonic() < deadline, job
        time.sleep(1)
    assert job["state"] == "SUCCEEDED"
    first, second = (platform.batches(name) for name in (str(platform.summary("first")["job_id"]), job["id"]))
    assert [scored.group_id for scored, _ in first] == [scored.group_id for scored, _ in second]
    for (_, ours), (_, theirs) in zip(first, second, strict=True):
        begun = {(episode.task, episode.steps[0].state_key) for episode in (*ours, *theirs)}
        assert len(begun) == 1


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["--environment", "nowhere"], "nowhere"),
        (["--use_gym_env", "false"], "use_gym_env"),
        (["--gigpo_step_advantage_weight", "-1"], "gigpo_step_advantage_weight"),
        (["--model", "/no/such/model"], "/no/such/model"),
        (["--gamma", "much"], "gamma"),
    ],
)
def test_bad_input_gets_one_sentence_and_exit_code_2(platform: Platform, words: list[str], sentence: str):
    said = platform.run("train", "job.yaml", *words, code=2)
    assert sentence in said
    assert "Traceback" not in said
