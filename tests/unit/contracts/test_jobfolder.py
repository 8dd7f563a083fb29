"""The layout of a job's folder is a file format: the trainer, the replicas and the API of any version meet there."""

from pathlib import Path

from services.contracts.jobfolder import FINAL, JobFolder


def test_the_files_of_a_job_lie_where_they_always_lay():
    folder = JobFolder.of(Path("data"), "j1")
    paths = {
        folder.root: "jobs/j1",
        folder.base: "jobs/j1/base",
        folder.policy(12): "jobs/j1/policy/v000012",
        folder.checkpoints: "jobs/j1/checkpoints",
        folder.rollouts(7): "jobs/j1/rollouts/batch-00007.msgpack.zlib",
        folder.evaluation_rollouts("after", 60): "jobs/j1/rollouts/eval-after-00060.msgpack.zlib",
        folder.metrics: "jobs/j1/metrics.jsonl",
        folder.evaluations: "jobs/j1/evaluations.json",
        folder.origin: "jobs/j1/origin.json",
        folder.tensorboard: "jobs/j1/tensorboard",
        folder.tracking: "jobs/j1/tracking",
        folder.summary: "jobs/j1/summary.json",
        folder.final: f"jobs/j1/{FINAL}",
    }
    assert {path: path.relative_to("data").as_posix() for path in paths} == paths
