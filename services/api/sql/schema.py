"""Migrates a database to the revision of this version of the code, or refuses it."""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, inspect

FOLDER = Path(__file__).parent / "migrations"
BASELINE = "0001"
"""The revision of databases that were made before revisions were recorded in them."""


class DatabaseIsNewer(Exception):
    """The database was brought to a revision that only a newer version of the code knows."""


def migrate(connection: Connection) -> str:
    """Apply the revisions that are missing, in the caller's transaction.

    Returns:
        The revision the database is at now.

    Raises:
        DatabaseIsNewer: nothing was changed.
    """
    config = Config()
    config.set_main_option("script_location", str(FOLDER))
    config.attributes["connection"] = connection
    current = MigrationContext.configure(connection).get_current_revision()
    newest, *older = (script.revision for script in ScriptDirectory(str(FOLDER)).walk_revisions())
    if current is not None and current not in {newest, *older}:
        raise DatabaseIsNewer(
            f"the database is at revision {current}, this version knows up to {newest}: "
            "run the version that made it, or restore the backup from before the upgrade"
        )
    if current is None and inspect(connection).has_table("jobs"):
        command.stamp(config, BASELINE)
    if current != newest:
        command.upgrade(config, newest)
    return newest
