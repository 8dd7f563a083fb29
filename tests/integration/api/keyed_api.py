"""An API process that wants keys, with two teams on it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.integration.api.api_process import ApiProcess, running_api

ADMIN_KEY = "adm-5f1c09a7d2e84b36c1f7"
SPEC: dict[str, Any] = {"model": {"scratch": {}}, "rollout": {"max_completion_length": 6}}
UNLIMITED = {
    "API_RATE_PER_KEY": "1000000/minute",
    "API_RATE_PER_ADDRESS": "1000000/minute",
    "API_RATE_WRONG_KEYS": "1000000/minute",
}


@dataclass
class KeyedApi:
    """The process, and clients that hold a key of some sort."""

    api: ApiProcess
    admin: httpx.Client

    def client(self, key: str | None, **more: Any) -> httpx.Client:
        """A client with this key; the caller closes it."""
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return httpx.Client(base_url=self.api.url, timeout=30, headers=headers, **more)

    def new_key(self, *scopes: str, project: str = "default", **more: Any) -> dict[str, Any]:
        """A key as the API answers it."""
        wanted = {"name": "-".join((project, *scopes)), "scopes": list(scopes), "project": project, **more}
        made: dict[str, Any] = self.admin.post("/v1/keys", json=wanted).raise_for_status().json()
        return made


@contextmanager
def keyed_api(data_dir: Path, redis_url: str, env_address: str, **more: str) -> Iterator[KeyedApi]:
    """The process with the projects `alpha` and `beta`."""
    settings = {"API_KEY": ADMIN_KEY, **UNLIMITED, **more}
    with running_api(data_dir, redis_url, env_address, **settings) as api:
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        with httpx.Client(base_url=api.url, timeout=30, headers=headers) as admin:
            for project in ("alpha", "beta"):
                admin.post("/v1/projects", json={"id": project}).raise_for_status()
            yield KeyedApi(api, admin)
