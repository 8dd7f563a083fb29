from __future__ import annotations

from collections.abc import Iterator

import httpx
import pytest

from tests.integration.api.api_process import ApiProcess, environment_service, running_api


@pytest.fixture(scope="module")
def env_address() -> Iterator[str]:
    with environment_service() as address:
        yield address


@pytest.fixture(scope="module")
def api(redis_server: str, env_address: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ApiProcess]:
    with running_api(tmp_path_factory.mktemp("data"), redis_server, env_address) as process:
        yield process


@pytest.fixture
def http(api: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=20) as client:
        yield client
