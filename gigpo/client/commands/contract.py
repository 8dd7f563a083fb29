"""`gigpo openapi`: what the REST API promises."""

from __future__ import annotations

from importlib.metadata import entry_points
from typing import Annotated

import typer

from gigpo.client.errors import BadInput
from gigpo.client.session import says_errors


@says_errors
def openapi(
    json_output: Annotated[bool, typer.Option("--json", help="Nothing changes: it is JSON anyway.")] = False,
) -> None:
    """Print the OpenAPI 3.1 document of the REST API as JSON; nothing is started.

    Generate a client from it, or load it into a viewer: `gigpo openapi > openapi.json`.
    """
    try:  # loaded here: no other command needs the API's packages
        (point,) = entry_points(group="gigpo.documents", name="openapi")
        write = point.load()
    except (ValueError, ImportError):
        raise BadInput("the API is not installed here; pip install 'gigpo-platform[api]'") from None
    write()
