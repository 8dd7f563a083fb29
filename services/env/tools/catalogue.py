"""What this installation can open, told without a service: the same words as `GET /v1/environments`."""

from typing import Any

from services.contracts.environment import EnvironmentInfo
from services.env.edge.translation import environment_message
from services.env.settings import Settings
from services.env.workers.registry import Registry, known_environments


def local_catalogue() -> list[dict[str, Any]]:
    """Every environment that is registered here, in order of id."""
    settings = Settings()
    registry = Registry(known_environments(settings.extra_environments), settings.options)
    return [
        {
            "info": EnvironmentInfo.listed(environment_message(entry)).model_dump(mode="json"),
            "unavailable_reason": entry.unavailable_reason,
        }
        for entry in registry.entries()
    ]
