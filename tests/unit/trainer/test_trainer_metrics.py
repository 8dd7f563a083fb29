"""The trainer's figures for Prometheus: counted from its events, and handed from the child to its parent."""

import time
from pathlib import Path

from services.contracts.events import BatchTrained, CheckpointSaved, PhaseBegan, Warned
from services.kit.metrics import exposition
from services.trainer.metrics import MOST_JOBS, metrics_file, note, note_compute, published, publishing_thread
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


def test_what_a_job_costs_is_counted_by_phase():
    note_compute("j-costs", "training", 2.5, 8.0)
    note_compute("j-costs", "training", 0.5, 4.0)
    note_compute("j-costs", "evaluation", 1.0, 0.0)
    assert figures("gigpo_trainer_gpu_seconds_total", "j-costs") == {("training",): 12, ("evaluation",): 0}
    assert figures("gigpo_trainer_cpu_seconds_total", "j-costs") == {("training",): 3, ("evaluation",): 1}


def test_a_process_keeps_the_figures_of_the_jobs_it_heard_of_last():
    for number in range(MOST_JOBS):
        note(f"j-many-{number}", BatchTrained(record={"tokens": 1}))
    note("j-many-0", CheckpointSaved(batch=1, name="b000001"))
    note_compute("j-many-new", "training", 1.0, 1.0)
    text = exposition(ours_only=True)
    for name in ("gigpo_trainer_batches_total", "gigpo_trainer_tokens_total", "gigpo_trainer_batch_seconds_total"):
        kept = {job for labels in samples(text, name) for job in labels if job.startswith("j-many-")}
        assert len(kept) == MOST_JOBS - 1
        assert "j-many-1" not in kept
        assert "j-many-0" in kept


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
