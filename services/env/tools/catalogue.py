"""Lists the installed environments without a service, in the form of `GET /v1/environments`."""

import asyncio

from pydantic import JsonValue

from services.contracts.environment import EnvironmentInfo
from services.env.edge.translation import environment_message
from services.env.settings import read_settings
from services.env.workers.listing import installed


def local_catalogue() -> list[dict[str, JsonValue]]:
    """Every environment that is registered here, in order of id."""
    return [
        {
            "info": EnvironmentInfo.listed(environment_message(entry)).model_dump(mode="json"),
            "unavailable_reason": entry.unavailable_reason,
        }
        for entry in asyncio.run(installed(read_settings()))
    ]
