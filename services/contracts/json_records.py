"""JSON objects in a job's folder, each with the schema version of its kind; see `versions`.

The first files said nothing of a version: an object without `schema` has version 1, and version 1 is written with it.
Older releases leave the key out of what they read.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from services.contracts.plain_errors import kind_of
from services.contracts.versions import ContractError, Upgrade, check_version, upgraded

Fields = dict[str, Any]


@dataclass(frozen=True)
class JsonKind:
    """One kind of object."""

    name: str
    """The name in errors."""
    upgrades: tuple[Upgrade[Fields], ...] = ()
    """Upgrade n makes the fields of version n + 1 of those of version n."""

    @property
    def newest(self) -> int:
        """The version that is written today."""
        return 1 + len(self.upgrades)

    def versioned(self, fields: Mapping[str, Any]) -> Fields:
        """The object as it is written."""
        return {"schema": self.newest, **fields}

    def fields(self, document: object) -> Fields:
        """The fields of a parsed object of any version in today's form, without its version.

        Raises:
            ContractError: it is no object, or of a newer version.
        """
        if not isinstance(document, dict):
            raise ContractError(f"{self.name}: want an object, got {kind_of(document)}")
        fields = dict(document)
        version = fields.pop("schema", 1)
        if not isinstance(version, int):
            raise ContractError(f"{self.name}: want a number as schema, got {version!r}")
        check_version(self.name, version, self.newest)
        try:
            return upgraded(fields, version, self.upgrades)
        except (LookupError, TypeError, AttributeError) as error:
            raise ContractError(f"{self.name}: want schema {version}, got fields that are none: {error!r}") from error


PROGRESS = JsonKind("progress.json")
"""`Progress` in a checkpoint."""
EVALUATION = JsonKind("a result of evaluations.json")
"""`EvaluationResult`; the file is a list of them."""
RECORD = JsonKind("a line of metrics.jsonl")
"""The record of a batch, see `metrics`."""
