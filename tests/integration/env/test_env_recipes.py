"""The recipes in the pages of environments, run as they are written."""

import json
import os
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from services.env.environments.mcp_session import McpServer
from services.env.environments.python_sandbox.runner import missing_here
from tests.documents import ROOT, CodeBlock, code_blocks

PAGES = ROOT / "docs" / "environments"


def blocks(page: str, language: str) -> list[CodeBlock]:
    name = f"docs/environments/{page}.md"
    return [block for block in code_blocks(name, (ROOT / name).read_text("utf-8")) if block.language == language]


def run(command: str, folder: Path, actions: str = "") -> str:
    """Output of a page's command, in a folder of the reader's own."""
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "-c", command],
        cwd=folder,
        input=actions,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": path},
        timeout=800,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.skipif(find_spec("minigrid") is None, reason="the extra minigrid is not installed")
def test_an_environment_of_another_package_is_opened_by_its_module(tmp_path: Path) -> None:
    (block,) = blocks("gymnasium", "sh")
    shown = run(block.code, tmp_path, "0\n")
    assert "mission: get to the green goal square" in shown


@pytest.mark.parametrize(
    ("page", "wanted"),
    [
        pytest.param("python_sandbox", "", marks=pytest.mark.skipif(bool(missing_here()), reason=missing_here())),
        pytest.param("textarena", "textarena"),
    ],
)
def test_a_transcript_is_what_is_shown(page: str, wanted: str, tmp_path: Path) -> None:
    if wanted and find_spec(wanted) is None:
        pytest.skip(f"{wanted} is not installed")
    transcript = blocks(page, "text")[0].code.splitlines()
    actions = [line.removeprefix("> ") for line in transcript if line.startswith("> ")]
    shown = run(f"gigpo env play {page}", tmp_path, "".join(f"{action}\n" for action in actions))
    for line in transcript:
        for part in line.split("[...]"):
            assert part.strip() in shown, f"{line!r} is not in:\n{shown}"


@pytest.mark.parametrize("page", ["gymnasium", "mcp", "openenv", "verifiers"])
def test_what_an_operator_is_told_to_set_is_json(page: str) -> None:
    text = (PAGES / f"{page}.md").read_text("utf-8")
    found = text.split("ENV_SERVICE_OPTIONS=")[1:]
    assert found
    for part in found:
        options = json.loads(shlex.split("X=" + part[: part.index("}'") + 2])[0].removeprefix("X="))
        assert list(options) == [page]
        if page == "mcp":
            assert [McpServer.model_validate(one) for one in options["mcp"]["servers"].values()]
