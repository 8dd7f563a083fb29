"""Keys, projects, and the record of what was done."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from gigpo.client.endpoints.base import Calls, given
from gigpo.client.http.binding import endpoint, source
from gigpo.client.http.call import Call, get, nothing, reads
from gigpo.client.http.flow import Flow, Source
from gigpo.client.models.access import ApiKey, AuditEntry, NewKey, Project, Whoami


class AccessCalls(Calls):
    """Who may do what; all but `whoami` want a key with the scope admin."""

    @endpoint
    def whoami(self) -> Flow[Whoami]:
        """Project and scopes of this client's key."""
        return self._perform(get("/v1/whoami", Whoami))

    @endpoint
    def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("read", "submit"),
        project: str | None = None,
        expires_unix_s: float | None = None,
    ) -> Flow[NewKey]:
        """Make a key. It is shown this once; only its hash is kept.

        Raises:
            Unreachable: the connection broke; a key that nobody saw may exist: `keys` lists it, revoke it.
        """
        body = given(name=name, scopes=list(scopes), project=project, expires_unix_s=expires_unix_s)
        return self._perform(Call("POST", "/v1/keys", reads(NewKey), body=body, repeatable=False))

    @endpoint
    def keys(self) -> Flow[list[ApiKey]]:
        """Every key, the revoked ones too."""
        return self._perform(get("/v1/keys", list[ApiKey]))

    @endpoint
    def key(self, key_id: str) -> Flow[ApiKey]:
        """One key, without its secret. Raises NotFound."""
        return self._perform(get("/v1/keys/{key_id}", ApiKey, key_id=key_id))

    @endpoint
    def revoke_key(self, key_id: str) -> Flow[None]:
        """Let a key open nothing any more. Raises NotFound."""
        return self._perform(Call("DELETE", "/v1/keys/{key_id}", nothing, names={"key_id": key_id}))

    @endpoint
    def projects(self) -> Flow[list[Project]]:
        """Every project, with its quotas and what it uses."""
        return self._perform(get("/v1/projects", list[Project]))

    @endpoint
    def project(self, project_id: str) -> Flow[Project]:
        """One project. Raises NotFound."""
        return self._perform(get("/v1/projects/{project_id}", Project, project_id=project_id))

    @endpoint
    def create_project(self, project_id: str, quotas: Mapping[str, int | None] | None = None) -> Flow[Project]:
        """Make a project. Raises Conflict when there is one of this id.

        Args:
            quotas: fields of `Quotas`; what is not named does not bind.
        """
        body = {"id": project_id, "quotas": dict(quotas or {})}
        return self._perform(Call("POST", "/v1/projects", reads(Project), body=body, repeatable=False))

    @endpoint
    def set_quotas(self, project_id: str, quotas: Mapping[str, int | None]) -> Flow[Project]:
        """Change the quotas that are named; None lifts one."""
        path, names = "/v1/projects/{project_id}", {"project_id": project_id}
        return self._perform(Call("PATCH", path, reads(Project), names=names, body=dict(quotas)))

    @source
    def audit(self, *, limit: int | None = 100) -> Source[AuditEntry]:
        """Every attempt to change something, newest first."""
        return self._entries("/v1/audit", "entries", AuditEntry, {}, limit=limit)
