"""Checkpoints in a server that speaks S3: moto's, where it is installed (`pip install "moto[server,s3]" s3fs`)."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path

import httpx
import pytest

from services.api.archive import main

MOTO = os.environ.get("MOTO_SERVER") or shutil.which("moto_server")
pytestmark = pytest.mark.skipif(
    MOTO is None or find_spec("s3fs") is None,
    reason="moto's server or s3fs is not installed; put moto_server on PATH or set MOTO_SERVER",
)


@pytest.fixture
def endpoint(tmp_path: Path) -> Iterator[str]:
    """URL of a server with the bucket `kept`."""
    assert MOTO is not None
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    url, log = f"http://127.0.0.1:{port}", tmp_path / "moto.log"
    with log.open("wb") as output, subprocess.Popen([MOTO, "-p", str(port)], stdout=output, stderr=output) as server:
        try:
            deadline = time.monotonic() + 120
            while not _answers(url):
                assert server.poll() is None, log.read_text()
                assert time.monotonic() < deadline, log.read_text()
                time.sleep(0.1)
            httpx.put(f"{url}/kept").raise_for_status()
            yield url
        finally:
            server.terminate()


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/moto-api/").status_code == 200
    except httpx.TransportError:
        return False


def test_a_checkpoint_goes_to_s3_and_comes_back(
    endpoint: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    variables = {
        "API_ARCHIVE_URL": "s3://kept/lab",
        "API_DATA_DIR": str(tmp_path),
        "AWS_ACCESS_KEY_ID": "a",
        "AWS_SECRET_ACCESS_KEY": "b",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_ENDPOINT_URL": endpoint,
    }
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    final = tmp_path / "jobs" / "j1" / "final"
    final.mkdir(parents=True)
    (tmp_path / "jobs" / "j1" / "summary.json").write_text("{}")
    weights = os.urandom(12_000_000)  # more than one part
    (final / "config.json").write_text("{}")
    (final / "model.safetensors").write_bytes(weights)
    assert main(["save"]) == main(["save"]) == 0
    shutil.rmtree(final)
    assert main(["list", "j1"]) == main(["restore", "j1"]) == 0
    assert (final / "model.safetensors").read_bytes() == weights
    size = len(weights) + 2
    assert capsys.readouterr().out.splitlines() == [
        f"j1 final saved, {size} bytes",
        "j1 final is there",
        "j1 final",
        f"j1 final restored, {size} bytes",
    ]
    monkeypatch.setenv("API_ARCHIVE_URL", "s3://nosuch/lab")
    assert main(["save", "j1"]) == 1
    assert capsys.readouterr().err.startswith("archive: ")
