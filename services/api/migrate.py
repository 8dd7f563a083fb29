"""Brings the database to this version's tables: python -m services.api.migrate. Setting: API_DATABASE_URL."""

from __future__ import annotations

import asyncio
import sys

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict
from sqlalchemy.exc import SQLAlchemyError

from services.api.settings import with_driver
from services.api.sql.database import Database
from services.api.sql.schema import DatabaseIsNewer
from services.contracts.service_settings import read_settings
from services.kit.log import configure_logging


class Settings(BaseSettings):
    """The one setting that it reads."""

    model_config = SettingsConfigDict(env_prefix="API_", frozen=True)

    database_url: SecretStr = Field(min_length=1)
    """The same URL as the API's; it has no default, as SQLite has no process to prepare it for."""


async def migrate(settings: Settings) -> int:
    """Exit status: 1 when the database does not answer or is newer than this version."""
    log = configure_logging("api", "INFO")
    database = Database(with_driver(settings.database_url.get_secret_value()))
    try:
        await database.migrate()
    except (DatabaseIsNewer, SQLAlchemyError, OSError) as error:
        log.error("cannot_use_database", error=str(error))
        return 1
    finally:
        await database.close()
    log.info("database_migrated", revision=database.revision)
    return 0


if __name__ == "__main__":
    sys.exit(asyncio.run(migrate(read_settings(Settings))))
