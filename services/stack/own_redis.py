"""Reads the settings of a Redis that the user runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import cast

from services.kit.redis import connect_blocking


def redis_info(url: str, timeout_s: float) -> Mapping[str, object]:
    """Its INFO; of a cluster one node's. Raises RedisError: it does not answer; ValueError: the address is none."""
    with connect_blocking(url, timeout_s=timeout_s) as client:
        return cast("Mapping[str, object]", client.info())
