"""The typed Python client and the `gigpo` command, over the REST API only.

    from gigpo import GigpoClient

    with GigpoClient("http://127.0.0.1:8400") as gigpo:
        job = gigpo.submit({"model": {"scratch": {}}, "environment": {"environment": "grid"}})
        for event in gigpo.events(job.id):
            print(event.kind, event.data)
        gigpo.download_checkpoint(job.id, "final", Path("policy"))

`AsyncGigpoClient` has the same methods as coroutines. `gigpo.client.errors` lists the exceptions.
"""

from gigpo.client.asynchronous import AsyncGigpoClient
from gigpo.client.errors import (
    ApiRefused,
    BadAnswer,
    BadInput,
    BrokenDownload,
    Conflict,
    Forbidden,
    GigpoError,
    Invalid,
    NoStack,
    NotFound,
    RateLimited,
    ServerFailed,
    Unauthorized,
    Unreachable,
)
from gigpo.client.http.retries import Retries
from gigpo.client.models import Checkpoint, Event, Job, Rollout, RolloutDetail
from gigpo.client.synchronous import GigpoClient

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
