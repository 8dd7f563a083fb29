"""Alembic runs this module for every command. It applies the revisions on `schema`'s connection and transaction."""

from __future__ import annotations

from alembic import context

import services.api.sql.access_tables  # noqa: F401 - its tables belong to the metadata
from services.api.sql.tables import Base

context.configure(connection=context.config.attributes["connection"], target_metadata=Base.metadata)
with context.begin_transaction():
    context.run_migrations()
