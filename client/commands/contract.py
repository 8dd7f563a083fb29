"""`gigpo openapi`: what the REST API promises."""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

import typer

NOT_INSTALLED = 2


def openapi() -> None:
    """Print the OpenAPI 3.1 document of the REST API as JSON; nothing is started.

    Generate a client from it, or load it into a viewer: `gigpo openapi > openapi.json`.
    """
    try:  # loaded here: no other command needs the API's packages
        (point,) = entry_points(group="gigpo.documents", name="openapi")
        write = point.load()
    except (ValueError, ImportError):
        sys.stderr.write("gigpo: the API is not installed here; pip install 'gigpo-platform[api]'\n")
        raise typer.Exit(NOT_INSTALLED) from None
    write()
