"""What jobs can name, and how the installation is."""

from __future__ import annotations

from typing import Any

from gigpo.client.endpoints.base import Calls
from gigpo.client.http.binding import endpoint
from gigpo.client.http.call import Call, get, reads
from gigpo.client.http.flow import Flow


class CatalogueCalls(Calls):
    """Environments, algorithms, the system."""

    @endpoint
    def environments(self) -> Flow[list[dict[str, Any]]]:
        """What jobs can name, with the JSON schema of the kwargs."""
        return self._perform(get("/v1/environments", list[dict[str, Any]]))

    @endpoint
    def environment(self, environment_id: str) -> Flow[dict[str, Any]]:
        """One environment. Raises NotFound."""
        return self._perform(get("/v1/environments/{environment_id}", dict[str, Any], environment_id=environment_id))

    @endpoint
    def algorithms(self) -> Flow[dict[str, Any]]:
        """Estimators and losses with their JSON schemas, and the schema of the whole job spec."""
        return self._perform(get("/v1/algorithms", dict[str, Any]))

    @endpoint
    def system(self) -> Flow[dict[str, Any]]:
        """Services, queues, the ledger's balance, versions."""
        return self._perform(get("/v1/system", dict[str, Any]))

    @endpoint
    def health(self) -> Flow[dict[str, Any]]:
        """Every dependency by name: `ok`, or what is wrong. A degraded installation is an answer, not an error."""
        return self._perform(Call("GET", "/healthz", reads(dict[str, Any]), accepted=frozenset({503})))
