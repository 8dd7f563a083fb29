"""Run by Alembic for every command: the revisions, on the connection and in the transaction that `schema` gives."""

from __future__ import annotations

from alembic import context

import services.api.sql.access_tables  # noqa: F401 - its tables belong to the metadata
from services.api.sql.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
