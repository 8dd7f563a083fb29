"""Where templates are rendered: a sandbox in which none reaches Python, or a value that the scene does not have."""

from __future__ import annotations

from collections.abc import Mapping

from jinja2 import DictLoader, StrictUndefined
from jinja2.sandbox import ImmutableSandboxedEnvironment

from services.contracts.templates import NONE, template_files


def scene_sandbox(brought: Mapping[str, str] = NONE) -> ImmutableSandboxedEnvironment:
    """With the platform's files, and those that an environment brings."""
    return ImmutableSandboxedEnvironment(
        loader=DictLoader({**brought, **template_files()}),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
