"""Revisions on SQLite in memory: new databases, those that are older, and those that are newer than the code."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection, create_engine, text

from services.api.sql.schema import DatabaseIsNewer, migrate
from services.api.sql.tables import Base


@pytest.fixture
def connection() -> Iterator[Connection]:
    engine = create_engine("sqlite://")
    with engine.connect() as connection:
        yield connection
    engine.dispose()


def test_the_revisions_lead_to_the_tables_that_the_code_declares(connection: Connection) -> None:
    migrate(connection)
    assert compare_metadata(MigrationContext.configure(connection), Base.metadata) == []


def test_migrating_again_changes_nothing(connection: Connection) -> None:
    assert migrate(connection) == migrate(connection)


def test_a_database_from_before_revisions_keeps_its_jobs_and_keys(connection: Connection) -> None:
    for statement in OLD.split(";"):
        connection.execute(text(statement.replace(":", r"\:")))
    migrate(connection)
    job = connection.execute(text("SELECT * FROM jobs")).mappings().one()
    assert (job["project_id"], job["kind"], job["environment_id"]) == ("default", "training", "grid")
    assert (job["advantage_estimator"], job["seed"], job["total_batches"]) == ("gigpo", 7, 60)
    assert (job["dispatch_wanted"], job["dispatch_made"]) == (1, 1)
    key = connection.execute(text("SELECT * FROM idempotency_keys")).mappings().one()
    assert (key["project_id"], key["key"], key["job_id"], key["answer"]) == ("default", "k", "j1", '{"id": "j1"}')


def test_a_database_that_is_newer_than_the_code_is_refused_and_left_alone(connection: Connection) -> None:
    migrate(connection)
    connection.execute(text("UPDATE alembic_version SET version_num = '9999'"))
    with pytest.raises(DatabaseIsNewer, match="revision 9999"):
        migrate(connection)
    assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one() == "9999"


OLD = """
CREATE TABLE jobs (id VARCHAR(32) NOT NULL PRIMARY KEY, name VARCHAR(64), state VARCHAR(16) NOT NULL,
  wish VARCHAR(8) NOT NULL, told_wish VARCHAR(8), dispatched BOOLEAN NOT NULL, spec JSON NOT NULL,
  environment JSON NOT NULL, created_unix_s FLOAT NOT NULL, started_unix_s FLOAT, finished_unix_s FLOAT,
  phase VARCHAR(64), error VARCHAR(4000), metrics JSON, summary JSON, event_id VARCHAR(40) NOT NULL);
CREATE INDEX ix_jobs_state ON jobs (state);
CREATE INDEX ix_jobs_name ON jobs (name);
CREATE TABLE job_events (job_id VARCHAR(32) NOT NULL, ms BIGINT NOT NULL, seq INTEGER NOT NULL,
  kind VARCHAR(16) NOT NULL, at_unix_s FLOAT NOT NULL, data JSON NOT NULL, PRIMARY KEY (job_id, ms, seq),
  FOREIGN KEY(job_id) REFERENCES jobs (id));
CREATE INDEX job_events_by_kind ON job_events (job_id, kind);
CREATE TABLE idempotency_keys ("key" VARCHAR(255) NOT NULL PRIMARY KEY, body_sha VARCHAR(64) NOT NULL,
  job_id VARCHAR(32) NOT NULL, answer JSON NOT NULL, created_unix_s FLOAT NOT NULL,
  FOREIGN KEY(job_id) REFERENCES jobs (id));
INSERT INTO jobs VALUES ('j1', 'old', 'RUNNING', 'run', 'run', 1, '{"environment": {"environment": "grid"},
  "algorithm": {"advantage_estimator": "gigpo"}, "training": {"seed": 7, "total_batches": 60}}', '{}', 1.0, 1.0,
  NULL, NULL, NULL, NULL, NULL, '0-0');
INSERT INTO idempotency_keys VALUES ('k', 'sha', 'j1', '{"id": "j1"}', 1.0)
"""
"""Make the database as the first version did."""
