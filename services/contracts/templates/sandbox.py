"""Renders templates in a sandbox: they cannot reach Python, and an unknown name is an error."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import DictLoader, StrictUndefined

from services.contracts.templates import NONE, template_files
from services.contracts.templates.bounded import BoundedSandbox


def scene_sandbox(brought: Mapping[str, str] = NONE) -> BoundedSandbox:
    """Make a sandbox with the platform's files and those that an environment brings."""
    return BoundedSandbox(
        loader=DictLoader({**brought, **template_files()}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
