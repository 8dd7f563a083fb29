"""`gigpo openapi`: prints the REST API's document without starting a service."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import structlog

from services.api.app import build_app
from services.api.settings import Settings


def openapi() -> None:
    """Write the OpenAPI 3.1 document as JSON to stdout."""
    unused = Settings(redis_url="redis://unused", data_dir=Path("unused"), env_address="unused:1")
    app = build_app(unused, structlog.get_logger())
    json.dump(app.openapi(), sys.stdout, indent=2)
    sys.stdout.write("\n")
