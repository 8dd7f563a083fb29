"""A loop of the service that breaks ends the service with the cause, for its supervisor to start it again."""

import asyncio

import pytest

from services.env.crew import Crew
from services.env.server import running_server
from services.env.service import EnvService
from services.env.settings import Settings


def broken(*_: object) -> None:
    raise KeyError("a defect of the loop")


@pytest.mark.parametrize(("owner", "name"), [(EnvService, "reap"), (Crew, "look_after")])
async def test_a_loop_that_breaks_ends_the_service(monkeypatch, owner, name):
    monkeypatch.setattr(owner, name, broken)

    async def serve() -> None:
        async with running_server(Settings(workers=1, drain_s=0)):
            await asyncio.Event().wait()

    with pytest.raises(KeyError):
        await asyncio.wait_for(serve(), 60)
