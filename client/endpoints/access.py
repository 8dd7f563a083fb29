"""Keys, projects, and the record of what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from client.endpoints.base import Calls
from client.http.binding import endpoint
from client.http.call import Call, get, nothing, reads
from client.http.flow import Flow
from client.models.access import ApiKey, NewKey, Project, Whoami


class AccessCalls(Calls):
    """Who may do what; most of it wants a key with the scope admin."""

    @endpoint
    def whoami(self) -> Flow[Whoami]:
        """Project and scopes of this client's key."""
        return self._perform(get("/v1/whoami", Whoami))

    @endpoint
    def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("submit", "read"),
        project: str | None = None,
        expires_unix_s: float | None = None,
    ) -> Flow[NewKey]:
        """Make a key. It is shown this once; only its hash is kept.

        Raises:
            Unreachable: the connection broke; a key that nobody saw may exist: `keys` lists it, revoke it.
        """
        body = {"name": name, "scopes": list(scopes), "project": project, "expires_unix_s": expires_unix_s}
        wanted = {field: value for field, value in body.items() if value is not None}
        return self._perform(Call("POST", "/v1/keys", reads(NewKey), body=wanted, repeatable=False))

    @endpoint
    def keys(self) -> Flow[list[ApiKey]]:
        """Every key, without the keys themselves."""
        return self._perform(get("/v1/keys", list[ApiKey]))

    @endpoint
    def revoke_key(self, key_id: str) -> Flow[None]:
        """Let a key open nothing any more. Raises NotFound."""
        return self._perform(Call("DELETE", "/v1/keys/{key_id}", nothing, names={"key_id": key_id}))

    @endpoint
    def projects(self) -> Flow[list[Project]]:
        """Projects with their quotas."""
        return self._perform(get("/v1/projects", list[Project]))

    @endpoint
    def create_project(self, name: str, quotas: Mapping[str, float | None] | None = None) -> Flow[Project]:
        """Make a project. Raises Conflict when the name is taken."""
        body = {"name": name, **(quotas or {})}
        return self._perform(Call("POST", "/v1/projects", reads(Project), body=body, repeatable=False))

    @endpoint
    def update_project(self, project_id: str, changes: Mapping[str, Any]) -> Flow[Project]:
        """Change a project's name or quotas."""
        path, names = "/v1/projects/{project_id}", {"project_id": project_id}
        return self._perform(Call("PATCH", path, reads(Project), names=names, body=dict(changes)))

    @endpoint
    def audit(self, *, limit: int = 100) -> Flow[Any]:
        """What was done lately, by whom."""
        return self._perform(get("/v1/audit", Any, {"limit": limit}))
