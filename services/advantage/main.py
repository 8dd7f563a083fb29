"""The advantage service as a process: python -m services.advantage.main. Settings: ADVANTAGE_* (settings.py)."""

import asyncio
import json
import os

from services.advantage.settings import Settings
from services.contracts import keys
from services.kit.lifecycle import announce, heartbeat, instance_name, stop_event
from services.kit.log import configure_logging
from services.kit.redis import connect


async def serve(settings: Settings) -> None:
    """Score groups until SIGTERM or SIGINT, finish what was read, return."""
    import torch  # after the settings are known to be right: it takes seconds

    from services.advantage.consumer import Consumer

    torch.set_num_threads(settings.torch_threads)
    stop, name = stop_event(), instance_name("advantage")
    redis = connect(settings.redis_url)
    consumer = Consumer(redis, settings, name)

    def status() -> str:
        return json.dumps(
            {"service": "advantage", "instance": name, "pid": os.getpid(), "detail": {"scored": consumer.scored}}
        )

    async with heartbeat(redis, keys.service_heartbeat("advantage", name), status):
        announce("advantage", None, settings.address_file)
        await consumer.run(stop)
    await redis.aclose()


def main() -> None:
    """Read the settings and serve; exit status 0 after a drain."""
    settings = Settings()
    configure_logging("advantage", settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
