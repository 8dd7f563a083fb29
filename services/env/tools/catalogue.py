"""What this installation can open, told without a service: the same words as `GET /v1/environments`."""

import json
from typing import Any

from services.contracts.environment import EnvironmentInfo
from services.env.registry import Registry, known_environments
from services.env.settings import Settings
from services.env.wire import EnvironmentEntry


def local_catalogue() -> list[dict[str, Any]]:
    """Every environment that is registered here, in order of id."""
    settings = Settings()
    return [
        _view(entry) for entry in Registry(known_environments(settings.extra_environments), settings.options).entries()
    ]


def _view(entry: EnvironmentEntry) -> dict[str, Any]:
    info = EnvironmentInfo(
        id=entry.id,
        description=entry.description,
        kwargs_schema=json.loads(entry.kwargs_schema_json),
        deterministic=entry.deterministic,
        gives_anchors=entry.gives_anchors,
        default_max_turns=entry.default_max_turns,
        splits=list(entry.splits),
        prompt_template=entry.prompt_template,
        vocabulary=list(entry.vocabulary),
    )
    return {"info": info.model_dump(mode="json"), "unavailable_reason": entry.unavailable_reason}
