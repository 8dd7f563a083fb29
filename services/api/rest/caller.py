"""The caller of a request and its rights. A caller sees one project; other projects do not exist for it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Request

from services.contracts.rest.access import DEFAULT_PROJECT, Scope


@dataclass(frozen=True)
class Caller:
    """Somebody whose key, session or machine was recognised."""

    name: str
    """The caller's name in the audit log."""
    scopes: frozenset[Scope]
    project_id: str = DEFAULT_PROJECT
    """The project that their new jobs belong to."""
    key_id: str | None = None
    """None: this machine in an open installation, or the key of the settings."""
    trusted: bool = False
    """A trusted caller may name any folder of this machine, as he could read it without us."""
    session_key: str | None = None
    """An outside agent's key of its session, which the routes of sessions verify; None for other callers."""

    def may(self, scope: Scope) -> bool:
        """Whether they hold the scope."""
        return scope in self.scopes or Scope.ADMIN in self.scopes

    @property
    def sees(self) -> str | None:
        """The one project whose rows they see; None: all."""
        return None if self.may(Scope.ADMIN) else self.project_id


THIS_MACHINE = Caller("this machine", frozenset(Scope), trusted=True)
"""Everybody who can reach a loopback address of an installation without keys."""
SETTINGS_KEY = Caller("the key of the settings", frozenset(Scope))
"""The first administrator: its key stands in the settings, not in the database."""


async def _of_request(request: Request) -> Caller:  # a plain function would be sent to a thread
    caller = request.state.caller
    assert caller is not None, "a public path asked who calls"
    return cast(Caller, caller)


Asking = Annotated[Caller, Depends(_of_request)]
"""The caller of a request, where the guard put it: `request.state.caller`."""
