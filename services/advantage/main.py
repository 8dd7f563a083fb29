"""The advantage service as a process: python -m services.advantage.main. Settings: ADVANTAGE_* (settings.py)."""

import asyncio

from services.advantage.settings import Settings
from services.contracts.service_settings import read_settings
from services.kit.lifecycle import announce, instance_name, stop_event
from services.kit.log import configure_logging
from services.kit.pulse import Work
from services.kit.redis import connect
from services.kit.side_port import Sources, observed
from services.kit.tracing import start_tracing
from services.ledger.presence import present


async def serve(settings: Settings) -> None:
    """Score groups until SIGTERM or SIGINT, finish what was read, return."""
    import torch  # imported after the settings are known to be right: it takes seconds

    from services.advantage.consumer import Consumer

    torch.set_num_threads(settings.torch_threads)
    stop, name = stop_event(), instance_name("advantage")
    redis = connect(settings.redis_url)
    consumer = Consumer(redis, settings, name)

    async with (
        present(redis, "advantage", name, lambda: {"scored": consumer.scored}),
        observed(settings, Sources({"redis": redis.ping}, stop.is_set), Work(lambda: consumer.turns)) as metrics,
    ):
        announce("advantage", None, settings.address_file, metrics)
        await consumer.run(stop)
    await redis.aclose()


def main() -> None:
    """Read the settings and serve; exit status 0 after a drain."""
    settings = read_settings(Settings)
    configure_logging("advantage", settings.log_level)
    start_tracing("advantage", settings)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
