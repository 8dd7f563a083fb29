"""Shell completion: values of flags, jobs, and environments. Every lookup is quick, and a failure completes nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any

from gigpo.client.errors import GigpoError
from gigpo.client.http.retries import Retries
from gigpo.client.stack import running_stack
from gigpo.client.synchronous import GigpoClient
from services.contracts.rewards import BUILT_IN_REWARDS

Completes = Callable[[str], list[str]]
"""The beginning of a word -> the words that it may become."""
_MOST_JOBS = 50
_PATIENCE_S = 2.0


def values_of(name: str, choices: Iterable[str]) -> Completes:
    """The completion of a flag's values: of its choices, or of what only this installation knows."""
    known = list(BUILT_IN_REWARDS if name == "reward_funcs" else choices)

    def completed(incomplete: str) -> list[str]:
        return [word for word in (environment_ids() if name == "environment" else known) if word.startswith(incomplete)]

    return completed


def complete_environment(incomplete: str) -> list[str]:
    """Ids of environments."""
    return [name for name in environment_ids() if name.startswith(incomplete)]


def complete_job(incomplete: str) -> list[str]:
    """Names and ids of jobs, newest first; without those that are archived."""
    return [word for word in dict.fromkeys(_job_words("no")) if word.startswith(incomplete)]


def complete_archived_job(incomplete: str) -> list[str]:
    """Names and ids of archived jobs, newest first."""
    return [word for word in dict.fromkeys(_job_words("yes")) if word.startswith(incomplete)]


def environment_ids() -> list[str]:
    """Ids of this installation's environments; without those of a service elsewhere."""
    with suppress(ImportError):  # only the client is installed
        found: list[Any] = [view for point in entry_points(group="gigpo.catalogue") for view in point.load()()]
        return [str(view["info"]["id"]) for view in found]
    return []


def _job_words(archived: str) -> list[str]:
    stack = running_stack(Path(os.environ.get("GIGPO_RUNS", "runs")))
    url = os.environ.get("GIGPO_API_URL") or (stack.api_url if stack else None)
    words: list[str] = []
    if url is not None:
        with (
            suppress(GigpoError, OSError),
            GigpoClient(
                url, os.environ.get("GIGPO_API_KEY") or None, timeout_s=_PATIENCE_S, retries=Retries(limit=0)
            ) as client,
        ):
            for job in client.jobs(limit=_MOST_JOBS, archived=archived):
                words += [job.name or job.id, job.id]
    return words
