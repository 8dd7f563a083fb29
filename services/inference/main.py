"""The inference service as a process: python -m services.inference.main. Settings: INFERENCE_* (settings.py)."""

import asyncio

from services.contracts.service_settings import read_settings
from services.inference.running import SERVICE, running_replica
from services.inference.settings import Settings
from services.kit.lifecycle import announce, stop_event
from services.kit.log import configure_logging
from services.kit.pulse import pulse


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain. Raises what broke a loop, for a supervisor to start it anew."""
    stop = asyncio.create_task(stop_event().wait())
    async with running_replica(settings) as failed, pulse(settings.pulse_file):
        announce(SERVICE, None, settings.address_file)
        await asyncio.wait({stop, failed}, return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            failed.result()


def main() -> None:
    """Read the settings and serve; exit status 0 after a drain."""
    settings = read_settings(Settings)
    configure_logging(SERVICE, settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
