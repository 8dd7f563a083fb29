from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from services.api.sql.database import Database
from tests.integration.api.api_process import ApiProcess, environment_service, running_api
from tests.integration.api.keyed_api import KeyedApi, keyed_api
from tests.postgres import PostgresServer

DATABASES = ["sqlite", "postgresql"]


@pytest.fixture(scope="module")
def env_address() -> Iterator[str]:
    with environment_service() as address:
        yield address


def _url(kind: str, folder: Path, request: pytest.FixtureRequest) -> str:
    if kind == "sqlite":
        return f"sqlite+aiosqlite:///{folder / 'platform.sqlite'}"
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="module", params=DATABASES)
def shared_database_url(request: pytest.FixtureRequest) -> str:
    """Settings of a module's API: none, so that it has SQLite in its data folder, then PostgreSQL."""
    if request.param == "sqlite":
        return ""
    server: PostgresServer = request.getfixturevalue("postgres")
    return server.new_database()


@pytest.fixture(scope="module")
def api(
    redis_server: str, env_address: str, tmp_path_factory: pytest.TempPathFactory, shared_database_url: str
) -> Iterator[ApiProcess]:
    """A running API, once on each database."""
    folder = tmp_path_factory.mktemp("data")
    with running_api(folder, redis_server, env_address, API_DATABASE_URL=shared_database_url) as process:
        yield process


@pytest.fixture(scope="module")
def keyed(
    redis_server: str, env_address: str, tmp_path_factory: pytest.TempPathFactory, shared_database_url: str
) -> Iterator[KeyedApi]:
    """One that wants keys, once on each database."""
    folder = tmp_path_factory.mktemp("data")
    with keyed_api(folder, redis_server, env_address, API_DATABASE_URL=shared_database_url) as process:
        yield process


@pytest.fixture
def http(api: ApiProcess) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=20) as client:
        yield client


@pytest.fixture(params=DATABASES)
def database_url(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """An empty database of each kind."""
    return _url(request.param, tmp_path, request)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """A migrated one."""
    database = Database(database_url)
    await database.migrate()
    yield database
    await database.close()
