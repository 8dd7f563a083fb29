"""The inference service as a process: python -m services.inference.main. Settings: INFERENCE_* (settings.py)."""

import asyncio

from services.contracts.service_settings import read_settings
from services.inference.running import SERVICE, running_replica
from services.inference.settings import Settings
from services.kit.lifecycle import announce, stop_event
from services.kit.log import configure_logging
from services.kit.side_port import Sources, observed
from services.kit.tracing import start_tracing


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises what broke a loop, for a supervisor to start it anew."""
    stopped = stop_event()
    stop, sources = asyncio.create_task(stopped.wait()), Sources({}, stopped.is_set)
    async with observed(settings, sources) as metrics, running_replica(settings, sources=sources) as failed:
        announce(SERVICE, None, settings.address_file, metrics)
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()


def main() -> None:
    """Read the settings and serve; exit status 0 after a drain."""
    settings = read_settings(Settings)
    configure_logging(SERVICE, settings.log_level)
    start_tracing(SERVICE, settings)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
