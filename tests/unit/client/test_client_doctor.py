"""The doctor's findings about a machine and an installation."""

from __future__ import annotations

import shutil
from importlib.metadata import PackageNotFoundError
from pathlib import Path
from types import SimpleNamespace

import pytest

from gigpo.client.doctor import installation, machine, services
from gigpo.client.doctor.training import trainable
from services.contracts.learner_memory import RankCount

NEEDS = [
    "httpx>=0.28,<1 ; extra == 'client'",
    "rich>=14 ; extra == 'client'",
    "gigpo-platform[client] ; extra == 'embedded'",
    "celery>=5.5 ; extra == 'embedded'",
    "pytest>=8 ; extra == 'dev'",
    "pydantic>=2.12",
]


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Versions of the packages that are installed; a test may change them."""
    found = {"httpx": "0.28.1", "rich": "14.0", "celery": "5.5.0", "pydantic": "2.14.3", "gigpo-platform": "0.1.0"}

    def version(name: str) -> str:
        if name not in found:
            raise PackageNotFoundError(name)
        return found[name]

    monkeypatch.setattr(installation, "requires", lambda _: NEEDS)
    monkeypatch.setattr(installation, "version", version)
    monkeypatch.setattr(installation, "whole_platform", lambda: True)
    return found


def test_requirements_are_met_through_the_extras_that_an_extra_is_made_of(
    installed: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    found = installation.packages()
    assert (found.state, found.what) == ("ok", "4 requirements of gigpo-platform[embedded] 0.1.0 are met")
    monkeypatch.setattr(installation, "whole_platform", lambda: False)
    assert installation.packages().what == "3 requirements of gigpo-platform[client] 0.1.0 are met"


def test_every_package_that_does_not_fit_is_named(installed: dict[str, str]) -> None:
    del installed["rich"]
    installed |= {"httpx": "1.0", "celery": "6.0rc1"}
    found = installation.packages()
    assert found.state == "bad"
    assert sorted(found.what.split("; ")) == ["httpx 1.0, want <1,>=0.28", "rich is missing"]
    assert found.todo == "pip install --constraint constraints.txt 'gigpo-platform[embedded]'"


@pytest.mark.parametrize(
    ("gigabytes", "ranks", "said"),
    [
        (1, RankCount(), "no model of 0.5B parameters fits 1 rank with 1 GB of memory each"),
        (24, RankCount(), "whole up to 0.5B, by LoRA up to 3B, on 1 rank with 24 GB of memory each"),
        (141, RankCount(), "whole up to 3B, by LoRA up to 32B, on 1 rank"),
        (141, RankCount(8, 8), "whole up to 32B, by LoRA up to 32B, on 8 ranks with 141 GB of memory each"),
        (141, RankCount(8, 2), "whole up to 7B, by LoRA up to 32B, on 8 ranks"),
    ],
)
def test_the_models_that_fit_are_those_of_the_dry_runs_estimate(gigabytes: int, ranks: RankCount, said: str) -> None:
    found = trainable(gigabytes * 10**9, ranks, "memory")
    assert said in found.what
    assert found.state == ("warning" if "no model" in said else "ok")


def test_an_old_python_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    assert installation.python().state == "ok"
    monkeypatch.setattr(installation, "OLDEST_PYTHON", (99, 0))
    assert (installation.python().state, installation.python().todo) == ("bad", "install Python 99.0 or newer")


@pytest.mark.parametrize(
    ("answer", "gpu_there", "state", "words"),
    [
        ({"version": "2.13", "devices": ["H200", "H200"]}, True, "ok", "2.13 on H200, H200"),
        ({"version": "2.13", "devices": []}, True, "warning", "sees no GPU, though nvidia-smi is there"),
        ({"version": "2.13", "devices": []}, False, "ok", "2.13, no GPU: training runs on the CPU"),
        ("ModuleNotFoundError: torch", False, "bad", "ModuleNotFoundError: torch"),
    ],
)
def test_torch_and_its_devices(
    monkeypatch: pytest.MonkeyPatch, answer: object, gpu_there: bool, state: str, words: str
) -> None:
    monkeypatch.setattr(installation, "_probe", lambda *_: answer)
    monkeypatch.setattr(shutil, "which", lambda _: "/bin/nvidia-smi" if gpu_there else None)
    found = installation.torch()
    assert found.state == state
    assert words in found.what


@pytest.mark.parametrize(
    ("kilobytes", "state"), [(1_900_000, "bad"), (2_000_000, "warning"), (3_900_000, "warning"), (4_000_000, "ok")]
)
def test_memory_is_judged_by_what_is_available(tmp_path: Path, kilobytes: int, state: str) -> None:
    meminfo = tmp_path / "meminfo"
    meminfo.write_text(f"MemTotal:       64000000 kB\nMemAvailable:   {kilobytes} kB\n")
    found = machine.memory(meminfo)
    assert found.state == state
    assert found.what.startswith(f"{kilobytes * 1024 / 1e9:,.1f} GB available, ")


@pytest.mark.parametrize("text", ["", "MemTotal: 1 kB\n", "MemAvailable: many kB\n", "MemAvailable:\n"])
def test_memory_that_nobody_tells_is_a_warning(tmp_path: Path, text: str) -> None:
    (tmp_path / "meminfo").write_text(text)
    assert machine.memory(tmp_path / "meminfo").state == "warning"
    assert machine.memory(tmp_path / "none").state == "warning"


@pytest.mark.parametrize(("free", "state"), [(0.9e9, "bad"), (1e9, "warning"), (4.9e9, "warning"), (5e9, "ok")])
def test_disk_is_judged_where_the_results_will_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, free: float, state: str
) -> None:
    asked: list[Path] = []

    def usage(place: Path) -> SimpleNamespace:
        asked.append(place)
        return SimpleNamespace(free=free)

    monkeypatch.setattr(shutil, "disk_usage", usage)
    found = machine.disk(tmp_path / "not" / "yet")
    assert (found.state, asked) == (state, [tmp_path])
    assert found.what == f"{free / 1e9:,.1f} GB free for {tmp_path / 'not' / 'yet'}"


def test_a_folder_that_cannot_be_written_is_bad(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.access", lambda *_: False)
    assert machine.disk(tmp_path).todo == "choose a folder of yours with --runs"


def test_the_port_of_this_folder_s_own_stack_is_well() -> None:
    found = machine.port(8400, "http://127.0.0.1:8400")
    assert (found.name, found.state, found.what) == ("port 8400", "ok", "this folder's stack listens on it")


def test_no_stack_is_no_fault() -> None:
    (found,) = services.api(None, None)
    assert (found.state, found.what[:11]) == ("ok", "no stack is")


def test_a_redis_that_is_no_address_is_bad() -> None:
    found = services.redis("nonsense")
    assert (found.state, found.todo) == ("bad", "start it, or unset STACK_REDIS_URL to use the embedded one")
