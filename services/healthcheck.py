"""`python -m services.healthcheck rollout`: exit status 0 while this machine's instance of a service beats.

The health check of containers without a port: rollout, inference, advantage, trainer. It asks the Redis that the
service itself is given, such as `ROLLOUT_REDIS_URL`. An inference replica is found by its default name only.

It looks by itself, though `services.ledger.presence` reads heartbeats too: that loads the whole ledger, and this runs
in every container every 15 seconds.
"""

from __future__ import annotations

import socket
import sys

from pydantic_settings import BaseSettings
from redis.exceptions import RedisError

from services.contracts import keys
from services.kit.redis import connect_blocking

TIMEOUT_S = 3.0
"""Longest wait for Redis."""


class Settings(BaseSettings):
    """What every service with a heartbeat has; the prefix is the service's."""

    redis_url: str


def is_alive(service: str, redis_url: str) -> bool:
    """Whether an instance of `service` on this machine beats. Raises RedisError: Redis does not answer."""
    ours = keys.service_heartbeat(service, f"{service}-{socket.gethostname()}-*")
    with connect_blocking(redis_url, timeout_s=TIMEOUT_S) as redis:
        return any(True for _ in redis.scan_iter(ours, count=1000))


def main() -> int:
    """Exit status: 0 it beats, 1 it does not or nobody can say."""
    (service,) = sys.argv[1:]
    settings = Settings(_env_prefix=f"{service.upper()}_")
    try:
        alive = is_alive(service, settings.redis_url)
    except (RedisError, ValueError) as error:
        sys.stderr.write(f"{service}: Redis does not answer: {error}\n")
        return 1
    if not alive:
        sys.stderr.write(f"{service}: no heartbeat from here\n")
    return 0 if alive else 1


if __name__ == "__main__":
    sys.exit(main())
