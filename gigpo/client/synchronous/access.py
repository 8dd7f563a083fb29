"""Keys, projects, and the audit log."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from gigpo.client.http.call import Call, get, given, nothing, reads
from gigpo.client.models import ApiKey, AuditEntry, NewKey, Project, Whoami
from gigpo.client.synchronous.base import Calls


class AccessCalls(Calls):
    """Manage access: keys, projects and the audit log; all calls but `whoami` want a key with the scope admin."""

    def whoami(self) -> Whoami:
        """Project and scopes of this client's key."""
        return self._perform(get("/v1/whoami", Whoami))

    def create_key(
        self,
        name: str,
        *,
        scopes: Sequence[str] = ("read", "submit"),
        project: str | None = None,
        expires_unix_s: float | None = None,
    ) -> NewKey:
        """Make a key. It is shown this once; only its hash is kept.

        Raises:
            Unreachable: the connection broke; a key that nobody saw may exist: `keys` lists it, revoke it.
        """
        body = given(name=name, scopes=[*scopes], project=project, expires_unix_s=expires_unix_s)
        return self._perform(Call("POST", "/v1/keys", reads(NewKey), body=body, repeatable=False))

    def keys(self) -> list[ApiKey]:
        """Every key, the revoked ones too."""
        return self._all("/v1/keys", ApiKey)

    def key(self, key_id: str) -> ApiKey:
        """One key, without its secret. Raises NotFound."""
        return self._perform(get("/v1/keys/{key_id}", ApiKey, key_id=key_id))

    def revoke_key(self, key_id: str) -> None:
        """Let a key open nothing any more. Raises NotFound."""
        return self._perform(Call("DELETE", "/v1/keys/{key_id}", nothing, names={"key_id": key_id}))

    def projects(self) -> list[Project]:
        """Every project, with its quotas and what it uses."""
        return self._all("/v1/projects", Project)

    def project(self, project_id: str) -> Project:
        """One project. Raises NotFound."""
        return self._perform(get("/v1/projects/{project_id}", Project, project_id=project_id))

    def create_project(self, project_id: str, quotas: Mapping[str, int | None] | None = None) -> Project:
        """Make a project. Raises Conflict when there is one of this id.

        Args:
            quotas: fields of `Quotas`; what is not named does not bind.
        """
        body = given(id=project_id, quotas={**(quotas or {})})
        return self._perform(Call("POST", "/v1/projects", reads(Project), body=body, repeatable=False))

    def set_quotas(self, project_id: str, quotas: Mapping[str, int | None]) -> Project:
        """Change the quotas that are named; None lifts one."""
        path, names = "/v1/projects/{project_id}", {"project_id": project_id}
        return self._perform(Call("PATCH", path, reads(Project), names=names, body=dict(quotas)))

    def audit(self, *, limit: int | None = 100) -> Iterator[AuditEntry]:
        """Every attempt to change something, newest first."""
        return self._entries("/v1/audit", "entries", AuditEntry, {}, limit=limit)
