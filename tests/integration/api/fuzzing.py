"""schemathesis over the whole OpenAPI document, as the clients that there are, against real processes.

    python -m tests.integration.api.fuzzing --cases 400     # the long run: about so many cases a call and client

Prints schemathesis' own summaries. An administrator must meet no server error and no answer that the document does
not allow; somebody without a key, and somebody of another project, must get nowhere.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from services.stack.valkey import embedded_redis
from tests.integration.api.api_process import ApiProcess, environment_service
from tests.integration.api.job_leftovers import GROUP, leave_results, summary
from tests.integration.api.keyed_api import ADMIN_KEY, SPEC, KeyedApi, keyed_api

CONFIG = Path(__file__).with_name("schemathesis.toml")
PUBLIC = "/healthz"
ADMINISTRATION = ("/v1/keys", "/v1/projects", "/v1/audit")
MALFORMED = frozenset({400, 405, 413, 415, 422})
"""Answers that come before anything is looked up."""


@dataclass(frozen=True)
class Outcome:
    """Result of a run of schemathesis."""

    status: int
    text: str
    answers: Counter[tuple[str, int]]
    """(path, status) -> how often."""

    @property
    def cases(self) -> int:
        return sum(self.answers.values())

    @property
    def summary(self) -> str:
        """The report from its heading on."""
        return self.text[self.text.rfind("= SUMMARY") :].partition("\n")[2].strip()


class Fuzzer:
    """Runs schemathesis against one API, whose jobs end soon after they were submitted.

    Args:
        job: a job of the project alpha with everything that a job can leave.
    """

    def __init__(self, keyed: KeyedApi, job: str, work: Path) -> None:
        self._keyed, self._job, self._work = keyed, job, work

    def run(self, key: str | None, *arguments: str) -> Outcome:
        """Call as the owner of a key, or without one; alpha's ids stand in the places of ids."""
        report = self._work / "answers.ndjson"
        report.unlink(missing_ok=True)
        headers = ["--header", f"Authorization: Bearer {key}"] if key else []
        command = [
            str(Path(sys.executable).with_name("schemathesis")), "--config-file", str(CONFIG), "run", "--url",
            self._keyed.api.url, str(self._document()), "--no-color", "--continue-on-failure",
            "--request-timeout", "60", "--generation-database", "none", "--report", "ndjson",
            "--report-ndjson-path", str(report), *headers, *arguments,
        ]  # fmt: skip
        ids = {"FUZZ_JOB": self._job, "FUZZ_DELETED_JOB": f"{self._job}0", "FUZZ_GROUP": GROUP}
        done = subprocess.run(command, cwd=self._work, env={**os.environ, **ids}, capture_output=True, text=True)
        return Outcome(done.returncode, done.stdout + done.stderr, _answers(report))

    def _document(self) -> Path:
        path = self._work / "openapi.json"
        path.write_text(self._keyed.admin.get("/openapi.json").raise_for_status().text)
        return path


@contextmanager
def fuzzer(redis_url: str, env_address: str, work: Path, database_url: str = "") -> Iterator[tuple[Fuzzer, KeyedApi]]:
    """An API with keys whose jobs succeed at once, and a job of alpha's with results."""
    stored = {"API_DATABASE_URL": database_url}
    with keyed_api(work / "data", redis_url, env_address, **stored) as keyed, _ending_jobs(keyed.api):
        with keyed.client(keyed.new_key("read", "submit", project="alpha")["key"]) as alpha:
            job = alpha.post("/v1/jobs", json=SPEC).raise_for_status().json()["id"]
            keyed.api.say(job, "summary", **summary(job))
        leave_results(keyed.api.data_dir, job)
        yield Fuzzer(keyed, job, work), keyed


@contextmanager
def _ending_jobs(api: ApiProcess) -> Iterator[None]:
    """Stand in for the trainer: report every job as running, and soon after that as done, so that streams end."""
    stop, seen = threading.Event(), set[str]()

    def work() -> None:
        while not stop.wait(0.1):
            for job in [one for one in api.queued_jobs() if one not in seen]:
                seen.add(job)
                api.say(job, "state", state="RUNNING")
                api.say(job, "metrics", batch=0, success=0.5, loss=-0.25)
                api.say(job, "state", state="SUCCEEDED")

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()


def _answers(report: Path) -> Counter[tuple[str, int]]:
    found: Counter[tuple[str, int]] = Counter()
    for line in report.read_text().splitlines():
        recorder = json.loads(line).get("ScenarioFinished", {}).get("recorder", {})
        for case, interaction in recorder.get("interactions", {}).items():
            if (response := interaction.get("response")) is not None:
                found[recorder["cases"][case]["value"]["path"], response["status_code"]] += 1
    return found


def complaints(
    runs: Fuzzer, keyed: KeyedApi, *arguments: str, others: Sequence[str] = ()
) -> Iterator[tuple[str, Outcome, list[str]]]:
    """(client, its run, what is wrong with it) for an administrator, nobody, and somebody of the project beta.

    Args:
        arguments: of schemathesis.
        others: those for all but the administrator, where they differ.
    """
    stranger = keyed.new_key("read", "submit", project="beta")["key"]
    for client, key, options in (
        ("administrator", ADMIN_KEY, arguments),
        ("nobody", None, others or arguments),
        ("another project", stranger, others or arguments),
    ):
        outcome = runs.run(key, *options)
        wrong = [f"schemathesis ended with {outcome.status}"] if outcome.status else []
        wrong += [
            f"{path} answered {status} {count} times"
            for (path, status), count in sorted(outcome.answers.items())
            if status not in _allowed(client, path)
        ]
        yield client, outcome, wrong


def _allowed(client: str, path: str) -> Container[int]:
    if client == "administrator" or path == PUBLIC:
        return range(500)
    if client == "nobody":
        return {401}
    if path.startswith(ADMINISTRATION):
        return {403}
    return MALFORMED | {404} if "{job_id}" in path else range(500)


def main() -> int:
    """Exit status: 0 when every run was clean."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cases", type=int, default=100, help="most cases a call, client and phase (default: 100)")
    parser.add_argument("--seed", type=int, default=1)
    given, clean = parser.parse_args(), True
    arguments = ("-n", str(given.cases), "--seed", str(given.seed))
    with (
        TemporaryDirectory() as folder,
        embedded_redis(Path(folder)) as redis,
        environment_service() as env,
        fuzzer(redis, env, Path(folder)) as (runs, keyed),
    ):
        for client, outcome, wrong in complaints(runs, keyed, *arguments):
            clean = clean and not wrong
            sys.stdout.write("\n".join([f"== {client}", outcome.text if wrong else outcome.summary, *wrong, ""]))
            sys.stdout.flush()
    return 0 if clean else 1


if __name__ == "__main__":
    sys.exit(main())
