"""Several environment services behind one API: it asks one that answers."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest
from gigpo_proto.env.v1 import env_pb2

from services.api.jobs.environments import EnvironmentCatalogue
from services.api.rest.problems import Problem
from services.contracts.job import parse_spec
from services.kit.process import free_port
from tests.integration.api.api_process import ListsEnvironments, environment_service, running_api
from tests.integration.api.submitting import SCRATCH, spec


class Counts(ListsEnvironments):
    """Counts the groups that are opened."""

    opened = 0

    def OpenGroup(self, request: Any, context: Any) -> env_pb2.OpenGroupResponse:
        self.opened += 1
        return super().OpenGroup(request, context)


async def test_another_service_is_asked_once_one_is_gone() -> None:
    one, two = Counts(), Counts()
    with ExitStack() as first, environment_service(two) as other:
        addresses = f"{first.enter_context(environment_service(one))}, {other}"
        catalogue = EnvironmentCatalogue(addresses, timeout_s=5.0)
        listed = [view.info.id for view in await catalogue.ask()]
        wanted = parse_spec({**SCRATCH, "environment": {"environment": "grid"}})
        await catalogue.opening(wanted, {"size": 2})
        assert (one.opened, two.opened) == (1, 0)
        first.close()
        await catalogue.opening(wanted, {"size": 3})
        assert (one.opened, two.opened) == (1, 1)
        assert [view.info.id for view in await catalogue.ask()] == listed
        await catalogue.close()


async def test_that_none_answers_names_them_all() -> None:
    nobody = f"127.0.0.1:{free_port()},127.0.0.1:{free_port()}"
    catalogue = EnvironmentCatalogue(nobody, timeout_s=0.5)
    with pytest.raises(Problem, match=nobody.replace(",", ", ")) as caught:
        await catalogue.ask()
    assert caught.value.status == 503
    await catalogue.close()


def test_a_job_is_checked_and_taken_while_one_of_two_services_is_down(redis_url: str, tmp_path: Path) -> None:
    with environment_service() as alive:
        addresses = f"127.0.0.1:{free_port()},{alive}"
        with running_api(tmp_path, redis_url, addresses) as api, httpx.Client(base_url=api.url, timeout=30) as http:
            assert http.post("/v1/jobs", json=spec()).status_code == 201
            wrong = http.post("/v1/jobs", json=spec(environment={"environment": "nowhere"}))
            assert wrong.status_code == 422
            assert http.get("/healthz").json()["checks"]["env"] == "ok"
