"""The public names of GiGPO Platform for user programs.

    from gigpo import GigpoClient              submit jobs and follow them over the REST API; `AsyncGigpoClient` too
    from gigpo.env import Environment          write your own environment
    import gigpo_core                          the mathematics

The client's names are imported on first use: an environment's worker imports `gigpo.env` and needs no HTTP library.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from gigpo.client import (
        ApiRefused,
        AsyncGigpoClient,
        BadAnswer,
        BadInput,
        BrokenDownload,
        Checkpoint,
        Conflict,
        Event,
        Forbidden,
        GigpoClient,
        GigpoError,
        Invalid,
        Job,
        NoStack,
        NotFound,
        RateLimited,
        Retries,
        Rollout,
        RolloutDetail,
        ServerFailed,
        Unauthorized,
        Unreachable,
    )

__all__ = [
    "ApiRefused",
    "AsyncGigpoClient",
    "BadAnswer",
    "BadInput",
    "BrokenDownload",
    "Checkpoint",
    "Conflict",
    "Event",
    "Forbidden",
    "GigpoClient",
    "GigpoError",
    "Invalid",
    "Job",
    "NoStack",
    "NotFound",
    "RateLimited",
    "Retries",
    "Rollout",
    "RolloutDetail",
    "ServerFailed",
    "Unauthorized",
    "Unreachable",
]


def __getattr__(name: str) -> Any:
    if name not in __all__:
        raise AttributeError(f"module 'gigpo' has no attribute {name!r}")
    return getattr(import_module("gigpo.client"), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
