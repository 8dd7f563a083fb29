"""A stack that trains exports every metric that dashboards, alert rules and docs/monitoring.md name; its spans tell who
led to what."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.e2e.test_small_run import BATCHES, GROUPS, Platform
from tests.monitoring import exported_names, names_in, queries, samples
from tests.otlp import Collector, collector, ids

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(900)]

PAGE = Path(__file__).parents[2] / "docs/monitoring.md"
SERVICES = {"env", "inference", "rollout", "advantage", "trainer", "api"}


class Scrapes:
    """What the stack's processes exported while a job trained."""

    def __init__(self, folder: Path) -> None:
        self._record = folder / "runs/.platform/stack.json"
        self.newest: dict[str, str] = {}
        """Service -> text of its last scrape."""
        self.names: set[str] = set()
        self.jobs: list[str] = []
        """What the API told of jobs, a scrape each."""

    def urls(self) -> dict[str, str]:
        services = json.loads(self._record.read_text())["services"]
        return {name: one["metrics"] for name, one in services.items() if one["metrics"]}

    def take(self) -> None:
        for name, url in self.urls().items():
            self.newest[name] = httpx.get(f"{url}/metrics", timeout=60).raise_for_status().text
            self.names |= exported_names(self.newest[name])
        if "gigpo_ledger_groups{" in self.newest["api"]:
            self.jobs.append(self.newest["api"])


@pytest.fixture(scope="module")
def traces() -> Iterator[Collector]:
    with collector() as traces:
        yield traces


@pytest.fixture(scope="module")
def scrapes(tmp_path_factory: pytest.TempPathFactory, traces: Collector) -> Iterator[Scrapes]:
    platform = Platform(tmp_path_factory.mktemp("metrics"))
    platform.environ |= {"API_EXPORT_S": "0.5", "STACK_TRACES_URL": traces.url}
    platform.run("up", "--detach")
    try:
        scrapes = Scrapes(platform.folder)
        with platform.start("train", "job.yaml", "--name", "watched") as training:
            while training.poll() is None:
                scrapes.take()
                time.sleep(0.5)
            assert training.returncode == 0, training.communicate()[0]
        time.sleep(6)  # the trainer's child writes every five seconds
        scrapes.take()
        yield scrapes
    finally:
        platform.run("down")


def test_every_process_is_alive_and_ready(scrapes: Scrapes) -> None:
    urls = scrapes.urls()
    assert set(urls) == SERVICES
    for url in urls.values():
        assert httpx.get(f"{url}/livez", timeout=60).status_code == 200
        ready = httpx.get(f"{url}/readyz", timeout=60)
        assert ready.status_code == 200, ready.text


@pytest.mark.parametrize("title", queries())
def test_every_query_reads_what_is_exported(scrapes: Scrapes, title: str) -> None:
    assert names_in(queries()[title]) <= scrapes.names


def test_the_page_lists_every_metric_of_ours_and_no_other(scrapes: Scrapes) -> None:
    ours = {name for name in scrapes.names if name.startswith("gigpo_")}
    listed = set(re.findall(r"^\| `(gigpo_\w+)`", PAGE.read_text(), re.MULTILINE))
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in ours} == listed


def test_the_figures_are_those_of_the_job(scrapes: Scrapes) -> None:
    trainer, rollout = scrapes.newest["trainer"], scrapes.newest["rollout"]
    assert list(samples(trainer, "gigpo_trainer_batches_total").values()) == [BATCHES]
    sampled = {kind: value for (_, kind), value in samples(trainer, "gigpo_trainer_tokens_total").items()}
    assert sampled["sampled"] >= sampled["trained"] > 0
    played = samples(rollout, "gigpo_rollout_tokens_total")
    assert played[("response",)] >= sampled["sampled"]
    assert samples(rollout, "gigpo_rollout_attempts_total")[("complete",)] > 0
    steps = samples(scrapes.newest["env"], "gigpo_env_step_seconds_count")[("grid",)]
    waited = samples(rollout, "gigpo_rollout_step_seconds_count")[("grid",)]
    assert steps >= waited > 0  # the API tried the environment at submission


def test_the_ledger_balances_at_every_reading(scrapes: Scrapes) -> None:
    assert scrapes.jobs
    for text in scrapes.jobs:
        assert set(samples(text, "gigpo_ledger_imbalance_groups").values()) == {0}
    opened = [sum(v for (_, _, state), v in samples(text, "gigpo_ledger_groups").items() if state == "opened")
              for text in scrapes.jobs]  # fmt: skip
    assert opened == sorted(opened)
    assert opened[-1] > 0


def test_spans_lead_from_the_group_to_the_token_and_on_to_the_batch(scrapes: Scrapes, traces: Collector) -> None:
    assert traces.services() == {
        "gigpo-trainer": {"job", "group", "batch", "train", "publish"},
        "gigpo-rollout": {"attempt", "episode", "step", "generate", "env"},
        "gigpo-inference": {"sample"},
        "gigpo-advantage": {"advantage"},
    }
    by_id = {span.span_id: span for _, span in traces.spans}
    parents = {"attempt": "group", "episode": "attempt", "step": "episode", "generate": "step", "env": "step",
               "sample": "generate", "advantage": "group", "batch": "job", "train": "batch"}  # fmt: skip
    for name, parent in parents.items():
        for span in traces.named(name):
            assert by_id[span.parent_span_id].name == parent, name
            assert by_id[span.parent_span_id].trace_id == span.trace_id
    for group in traces.named("group"):
        assert not group.parent_span_id
        assert [by_id[link.span_id].name for link in group.links] == ["job"]


def test_ids_are_the_same_in_every_service(scrapes: Scrapes, traces: Collector) -> None:
    trained = {ids(by)["group"] for by in traces.named("group") if ids(by)["purpose"] == "train"}
    groups = {span.span_id: ids(span)["group"] for span in traces.named("group")}
    batches = traces.named("batch")
    assert {ids(span)["batch"] for span in batches} == set(range(BATCHES))
    for batch in batches:
        assert len({groups[link.span_id] for link in batch.links} & trained) == GROUPS
    assert {ids(span)["group"] for span in traces.named("advantage")} >= trained
    assert len({ids(span)["job"] for _, span in traces.spans}) == 1
    assert all({"job", "group", "episode", "step", "attempt"} <= ids(span).keys() for span in traces.named("generate"))
    assert {ids(span)["policy_version"] for span in traces.named("publish")} == set(range(1, BATCHES + 1))
    assert all("policy_version" in ids(span) for span in traces.named("sample"))
