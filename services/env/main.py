"""The environment service as a process: python -m services.env.main. Settings: ENV_SERVICE_* (settings.py)."""

import asyncio

from services.env.edge.server import running_server
from services.env.settings import Settings, read_settings
from services.kit.lifecycle import announce, stop_event
from services.kit.log import configure_logging
from services.kit.side_port import Sources, observed


async def serve(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain."""
    stop = stop_event()
    sources = Sources({}, stop.is_set)
    async with observed(settings, sources) as metrics, running_server(settings, sources) as address:
        announce("env", address, settings.address_file, metrics)
        await stop.wait()


def main() -> None:
    """Read the settings and serve; exit status 0 after a drain."""
    settings = read_settings()
    configure_logging("env", settings.log_level)
    asyncio.run(serve(settings))


if __name__ == "__main__":
    main()
