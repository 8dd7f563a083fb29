"""The trainer's figures for Prometheus: counted from its events, and handed from the child to its parent."""

import time
from pathlib import Path

from services.contracts.events import BatchTrained, CheckpointSaved, PhaseBegan, Warned
from services.kit.metrics import exposition
from services.trainer.metrics import metrics_file, note, published, publishing_thread
from tests.monitoring import samples


def figures(name: str, job: str) -> dict[tuple[str, ...], float]:
    """Labels other than the job -> value."""
    found = samples(exposition(ours_only=True), name)
    return {tuple(one for one in labels if one != job): value for labels, value in found.items() if job in labels}


def test_batches_add_up_and_the_newest_one_is_shown():
    row = {"version": 1, "tokens": 100, "trained_tokens": 80, "env_steps": 32, "train_s": 2.0, "wait_s": 3.0,
           "wait_env_s": 1.0, "success": 0.25, "staleness_max": 2}  # fmt: skip
    note("j-adds", BatchTrained(record=row))
    note("j-adds", BatchTrained(record={**row, "version": 2, "success": 0.5, "staleness_max": 0}))
    assert figures("gigpo_trainer_batches_total", "j-adds") == {(): 2}
    assert figures("gigpo_trainer_tokens_total", "j-adds") == {("sampled",): 200, ("trained",): 160}
    seconds = figures("gigpo_trainer_batch_seconds_total", "j-adds")
    assert (seconds["training",], seconds["rollout",], seconds["environment",]) == (4, 6, 2)
    assert figures("gigpo_trainer_policy_version", "j-adds") == {(): 2}
    assert figures("gigpo_trainer_success_share", "j-adds") == {(): 0.5}
    assert figures("gigpo_trainer_staleness_versions", "j-adds")["oldest",] == 0


def test_other_events_are_counted_by_what_they_are():
    note("j-other", CheckpointSaved(batch=1, name="b000001"))
    note("j-other", PhaseBegan(phase="publish"))
    note("j-other", PhaseBegan(phase="publish"))
    note("j-other", Warned(service="trainer", message="It goes on."))
    assert figures("gigpo_trainer_checkpoints_total", "j-other") == {(): 1}
    assert figures("gigpo_trainer_phases_total", "j-other") == {("publish",): 2}
    assert figures("gigpo_trainer_batches_total", "j-other") == {}


def test_a_batch_without_a_figure_counts_nothing_of_it():
    note("j-odd", BatchTrained(record={"tokens": None, "train_s": "long"}))
    assert figures("gigpo_trainer_tokens_total", "j-odd") == {("sampled",): 0, ("trained",): 0}


async def test_the_parent_passes_on_what_the_child_wrote(tmp_path: Path):
    pulse = tmp_path / "trainer"
    assert await published(pulse) == ""
    assert await published(None) == ""
    note("j-handed", CheckpointSaved(batch=1, name="b000001"))
    publishing_thread(metrics_file(pulse))
    deadline = time.monotonic() + 60
    while not (text := await published(pulse)):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    assert samples(text, "gigpo_trainer_checkpoints_total")[("j-handed",)] == 1
    assert "process_cpu_seconds_total" not in text  # the parent has its own
