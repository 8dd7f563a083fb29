from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.client.fake_api import FakeApi, Gigpo, command_line


@pytest.fixture
def fake_api() -> FakeApi:
    """An API that knows nothing yet."""
    return FakeApi()


@pytest.fixture
def gigpo(
    fake_api: FakeApi, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> Gigpo:
    """Run `gigpo` against that API, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    return command_line(fake_api, monkeypatch, capsys)
