"""Run the sessions that docs/api.md shows, on a platform of their own; they print what the page says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.doc_sessions import ROOT, Session, blocks, looks_like

pytestmark = [pytest.mark.timeout(900), pytest.mark.filterwarnings("ignore::DeprecationWarning")]

SESSIONS = {"docs/api.md": ""}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Path, str]]:
    """A folder, and the address of the API of the stack that is up in it."""
    folder = tmp_path_factory.mktemp("platform")
    variables = {**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto'}", "STACK_API_PORT": "0"}

    def gigpo(*words: str) -> str:
        command = [sys.executable, "-m", "gigpo.client.main", *words]
        done = subprocess.run(command, cwd=folder, env=variables, capture_output=True, text=True, timeout=150)
        assert done.returncode == 0, done.stderr
        return done.stdout

    url = json.loads(gigpo("up", "--detach", "--json"))["api_url"]
    yield folder, url
    gigpo("down")


@pytest.mark.parametrize("document", SESSIONS)
def test_a_documented_session_runs_and_prints_what_it_says(
    platform: tuple[Path, str], document: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, url = platform
    monkeypatch.chdir(folder)
    for name in ("GIGPO_API_URL", "GIGPO_API_KEY", "GIGPO_RUNS"):
        monkeypatch.delenv(name, raising=False)
    languages = set()
    with Session(url) as session:
        for block in blocks(ROOT / document, SESSIONS[document]):
            languages.add(block.language)
            printed = session.run(block)
            if block.output is not None:
                assert looks_like(printed, block.output), f"{document}:{block.line} prints\n{printed}"
    assert languages == {"sh", "python"}


@pytest.mark.parametrize(
    ("printed", "written", "alike"),
    [
        ("batch 1/2  success 0.5\nbatch 2/2  success 1.0\n", "batch 1/3  success 0.25\n", True),
        ("state QUEUED\nstate RUNNING\nphase training\n", "state QUEUED\n...\nphase training", True),
        ("batch 1: a 1\nbatch 2: a 2\nend\n", "batch 1: a 0\n...\nbatch 9: a 9\nend", True),
        ("job j1a212792b422c52ed, task: put soap in drawer", "job j1a21275c997ed9bf0, task: put apple in fridge", True),
        ("0a27a801c187  gigpo_0a27a801c187_  robots", "393914014082  gigpo_393914014082_  robots", True),
        ("state FAILED: no room\n", "state SUCCEEDED\n", False),
        ('{"won":6,"steps":[8,4]}', '{"won":6,"step":[8,4]}', False),
        ("one\ntwo\n", "one\n", False),
    ],
)
def test_outputs_are_compared_but_for_figures_ids_and_what_the_agent_did(
    printed: str, written: str, alike: bool
) -> None:
    assert looks_like(printed, written) == alike
