"""Compose itself reads the files, and the script writes every secret they want."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
FILES = {"gpu": ["docker-compose.yml"], "cpu": ["docker-compose.yml", "docker-compose.cpu.yml"]}
WANTED = re.compile(r"\$\{(\w+):\?")
DOCKER = shutil.which("docker")


def has_compose() -> bool:
    command = [str(DOCKER), "compose", "version"]
    return DOCKER is not None and not subprocess.run(command, capture_output=True, check=False).returncode


def secrets(folder: Path) -> str:
    subprocess.run(["sh", str(ROOT / "scripts/compose_secrets.sh")], cwd=folder, check=True, timeout=60)
    return (folder / ".env").read_text()


def config(files: list[str], env_file: Path, *options: str) -> subprocess.CompletedProcess[str]:
    named = [word for name in files for word in ("--file", str(ROOT / name))]
    command = [str(DOCKER), "compose", "--env-file", str(env_file), *named, *options, "config", "--quiet"]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)


def test_the_script_writes_every_secret_once(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("GIGPO_PORT=9000\nGIGPO_REDIS_API=mine\n")
    first = secrets(tmp_path)
    told = dict(line.split("=") for line in first.splitlines())
    assert set(WANTED.findall((ROOT / "docker-compose.yml").read_text())) <= set(told)
    assert (told["GIGPO_PORT"], told["GIGPO_REDIS_API"]) == ("9000", "mine")
    made = [value for name, value in told.items() if value not in ("9000", "mine")]
    assert len(set(made)) == len(made)
    assert all(re.fullmatch("[0-9a-f]{48}", value) for value in made)
    assert secrets(tmp_path) == first


def test_nobody_else_reads_the_secrets(tmp_path: Path) -> None:
    secrets(tmp_path)
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
@pytest.mark.parametrize("files", FILES.values(), ids=list(FILES))
@pytest.mark.parametrize("options", [(), ("--profile", "observability")], ids=["plain", "observability"])
def test_compose_takes_the_files(tmp_path: Path, files: list[str], options: tuple[str, ...]) -> None:
    secrets(tmp_path)
    done = config(files, tmp_path / ".env", *options)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(not has_compose(), reason="docker compose is not installed")
def test_without_secrets_compose_says_which_script_makes_them(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("")
    done = config(FILES["gpu"], tmp_path / ".env")
    assert done.returncode != 0
    assert "run scripts/compose_secrets.sh" in done.stderr
