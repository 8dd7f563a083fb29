"""`gigpo keys` and `gigpo projects` against an API that wants keys."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from gigpo.client import GigpoClient
from tests.integration.api.api_process import environment_service, running_api
from tests.integration.client.conftest import Gigpo

ADMIN = "Zq7-kV2xWp9-Lm4tRc8-Yb1nHd6"


def test_keys_are_made_used_and_revoked_within_their_project(
    redis_url: str, gigpo: Gigpo, variables: dict[str, str], tmp_path: Path
) -> None:
    with environment_service() as address, running_api(tmp_path, redis_url, address, API_KEY=ADMIN) as api:
        assert (without := gigpo("keys", "list", "--api", api.url)).returncode == 2, without.stdout
        variables |= {"GIGPO_API_KEY": ADMIN, "GIGPO_API_URL": api.url}

        def run(*arguments: str) -> Any:
            done = gigpo(*arguments, "--json")
            assert done.returncode == 0, done.stderr
            return json.loads(done.stdout)

        assert run("projects", "create", "robots", "--max-jobs", "4")["quotas"]["max_concurrent_jobs"] == 4
        assert run("projects", "update", "robots", "--max-jobs", "none")["quotas"]["max_concurrent_jobs"] is None
        made = gigpo("keys", "create", "nightly", "--project", "robots", "--expires-in", "90d")
        key = made.stdout.strip()
        assert (made.returncode, made.stdout) == (0, f"{key}\n")
        (listed,) = run("keys", "list")
        assert (listed["project"], listed["scopes"], "key" in listed) == ("robots", ["read", "submit"], False)
        with GigpoClient(api.url, key) as robots:
            assert robots.whoami().project == "robots"
        assert run("keys", "revoke", listed["id"], "--yes") == {"revoked": listed["id"]}
        variables["GIGPO_API_KEY"] = key
        assert gigpo("jobs", "list").returncode == 2
