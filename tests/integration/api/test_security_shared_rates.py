"""Rate limits that several API processes count together in Redis."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import structlog

from services.api.rest.problems import Problem
from services.api.security.rates import Rates
from services.stack.valkey import embedded_redis

LIMITS = {"per_key": "3/hour", "per_address": "100/hour", "failures_per_address": "1/hour"}


@asynccontextmanager
async def processes(redis_url: str, count: int) -> AsyncIterator[list[Rates]]:
    """Make the rates with which so many API processes count."""
    made = [Rates(structlog.get_logger(), redis_url=redis_url, **LIMITS) for _ in range(count)]
    try:
        yield made
    finally:
        for one in made:
            await one.aclose()


async def test_two_processes_share_one_limit_of_a_key(redis_url: str):
    async with processes(redis_url, 2) as (first, second):
        for one in (first, second, first):
            await one.count_key("k1")
        with pytest.raises(Problem, match="too many calls with key k1: want at most 3 per 1 hour"):
            await second.count_key("k1")
        await second.count_key("k2")


async def test_wrong_keys_shown_to_one_process_are_held_against_the_address_by_the_other(redis_url: str):
    async with processes(redis_url, 2) as (first, second):
        await second.count_address("192.0.2.1")
        await first.count_failure("192.0.2.1")
        with pytest.raises(Problem, match=r"too many wrong keys 192\.0\.2\.1"):
            await second.count_address("192.0.2.1")


async def test_without_redis_each_process_counts_alone_and_no_call_fails(tmp_path: Path):
    with embedded_redis(tmp_path) as url:
        async with processes(url, 1) as (one,):
            await one.count_key("k1")
    async with processes(url, 1) as (one,):
        for _ in range(3):
            await one.count_key("k1")
        with pytest.raises(Problem):
            await one.count_key("k1")
