"""The catalogue: environments and algorithms that jobs can name, and the health of the installation."""

from __future__ import annotations

from gigpo.client.http.call import Call, get, reads
from gigpo.client.models import JsonObject
from gigpo.client.synchronous.base import Calls


class CatalogueCalls(Calls):
    """Environments, algorithms, the system."""

    def environments(self) -> list[JsonObject]:
        """Everything that jobs can name, with the JSON schema of the kwargs."""
        return self._all("/v1/environments", JsonObject)

    def environment(self, environment_id: str) -> JsonObject:
        """One environment. Raises NotFound."""
        return self._perform(get("/v1/environments/{environment_id}", JsonObject, environment_id=environment_id))

    def algorithms(self) -> JsonObject:
        """Estimators and losses with their JSON schemas, and the schema of the whole job spec."""
        return self._perform(get("/v1/algorithms", JsonObject))

    def system(self) -> JsonObject:
        """Services, queues, the ledger's balance, versions."""
        return self._perform(get("/v1/system", JsonObject))

    def health(self) -> JsonObject:
        """Every dependency by name: `ok`, or what is wrong. A degraded installation is an answer, not an error."""
        return self._perform(Call("GET", "/healthz", reads(JsonObject), accepted=frozenset({503})))
