"""A client whose background loop ended is not used any further: what uses it ends with the cause."""

import asyncio

import pytest

from services.rollout.environments import connected_environments
from services.rollout.inference import connected_inference
from services.rollout.limits import EnvironmentLimits, InferenceLimits


class DefectiveRedis:
    """Answers nothing that a loop could use."""

    async def delete(self, *_: str) -> None:
        """Do nothing, and return as if it were done."""


async def test_inference_whose_loop_breaks_ends_who_uses_it():
    async def use() -> None:
        async with connected_inference(DefectiveRedis(), "w", InferenceLimits()):
            await asyncio.Event().wait()

    with pytest.raises(AttributeError, match="DefectiveRedis"):
        await use()


async def test_environments_whose_leases_cannot_be_renewed_end_who_uses_them():
    async def use() -> None:
        async with connected_environments("127.0.0.1:1", EnvironmentLimits()) as environments:
            environments._ttl_s = "never"
            await asyncio.Event().wait()

    with pytest.raises(TypeError):
        await use()
