"""Rules that the Dockerfile keeps, where no engine is there to build it."""

from __future__ import annotations

import re
from itertools import takewhile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
TEXT = (ROOT / "Dockerfile").read_text()
INSTRUCTIONS = [
    re.sub(r"\s+", " ", one).strip()
    for one in re.split(r"\n(?=[A-Z]+ )", re.sub(r"(?m)^#.*\n|\\\n", "", TEXT))
    if one.strip()
]
FINAL = list(takewhile(lambda one: not one.startswith("FROM"), reversed(INSTRUCTIONS)))[::-1]
"""Instructions of the last stage."""


def told(instructions: list[str], word: str) -> list[str]:
    return [one.removeprefix(f"{word} ") for one in instructions if one.startswith(f"{word} ")]


def test_a_service_runs_as_a_numbered_user_without_rights() -> None:
    (user,) = told(INSTRUCTIONS, "USER")
    assert user == "10001", "Kubernetes' runAsNonRoot wants a number"
    assert FINAL.index("USER 10001") > max(i for i, one in enumerate(FINAL) if one.startswith(("RUN", "COPY")))


def test_every_base_has_a_version() -> None:
    stages = set(re.findall(r" AS (\S+)", TEXT))
    defaults = dict(one.split("=", 1) for one in told(INSTRUCTIONS, "ARG") if "=" in one)
    bases = [
        re.sub(r"\$\{(\w+)\}", lambda name: defaults[name[1]], one.split()[0]) for one in told(INSTRUCTIONS, "FROM")
    ]
    outside = [base for base in bases if base not in stages]
    assert outside
    assert all(
        re.search(r"(:[\w.-]+|@sha256:[0-9a-f]{64})$", base) and not base.endswith(":latest") for base in outside
    )


@pytest.mark.parametrize("command", [one for one in INSTRUCTIONS if "pip install" in one])
def test_what_is_installed_is_pinned_and_leaves_no_cache(command: str) -> None:
    for install in re.findall(r"pip install ([^&]*)", command):
        assert "--no-cache-dir" in install
        pinned = ("--constraint", "--requirement", "--no-deps", "==")
        assert any(word in install for word in pinned) or "inference" in install, "the base image's vLLM pins the rest"


def test_packages_of_the_system_leave_no_lists_and_bring_no_others() -> None:
    for command in (one for one in INSTRUCTIONS if "apt-get install" in one):
        assert "--no-install-recommends" in command
        assert "rm -rf /var/lib/apt/lists/*" in command


def test_no_secret_and_no_download_is_built_in() -> None:
    assert not told(INSTRUCTIONS, "ADD")
    names = [re.split("[= ]", one)[0] for word in ("ARG", "ENV") for one in told(INSTRUCTIONS, word)]
    assert not [name for name in names if re.search("KEY|SECRET|TOKEN|PASSWORD", name)]
    assert "sudo" not in TEXT


def test_an_image_says_what_it_is_and_how_it_is() -> None:
    labels = " ".join(told(FINAL, "LABEL"))
    for name in ("title", "description", "licenses", "version"):
        assert f"org.opencontainers.image.{name}=" in labels
    (check,) = told(FINAL, "HEALTHCHECK")
    assert '"gigpo-probe", "/readyz"' in check
    assert "COPY --chmod=755 scripts/probe.sh /usr/local/bin/gigpo-probe" in FINAL
