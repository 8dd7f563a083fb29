"""Projects, kinds and origins of jobs; counted dispatches; columns for lists of jobs."""

from __future__ import annotations

import json

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision: str | None = "0001"


def upgrade() -> None:
    _add_job_columns()
    _fill_job_columns()
    op.drop_column("jobs", "dispatched")
    op.drop_index("ix_jobs_state", "jobs")
    op.create_index("jobs_by_state", "jobs", ["state", "id"])
    op.create_index("jobs_by_project", "jobs", ["project_id", "id"])
    op.create_index("jobs_by_parent", "jobs", ["parent_job"])
    _scope_idempotency_keys()


def _add_job_columns() -> None:
    for column in (
        sa.Column("project_id", sa.String(64), nullable=False, server_default="default"),
        sa.Column("kind", sa.String(16), nullable=False, server_default="training"),
        sa.Column("environment_id", sa.String(128), nullable=False, server_default=""),
        sa.Column("advantage_estimator", sa.String(16), nullable=False, server_default=""),
        sa.Column("seed", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("total_batches", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("parent_job", sa.String(32)),
        sa.Column("origin", sa.JSON),
        sa.Column("dispatch_wanted", sa.Integer, nullable=False, server_default="1"),
        sa.Column("dispatch_made", sa.Integer, nullable=False, server_default="0"),
    ):
        op.add_column("jobs", column)


def _fill_job_columns() -> None:
    jobs = sa.table(
        "jobs",
        sa.column("id", sa.String),
        sa.column("spec", sa.JSON),
        sa.column("dispatched", sa.Boolean),
        sa.column("environment_id", sa.String),
        sa.column("advantage_estimator", sa.String),
        sa.column("seed", sa.BigInteger),
        sa.column("total_batches", sa.BigInteger),
        sa.column("dispatch_made", sa.Integer),
    )
    connection = op.get_bind()
    for row in connection.execute(sa.select(jobs.c.id, jobs.c.spec, jobs.c.dispatched)).all():
        values = {
            "environment_id": row.spec["environment"]["environment"],
            "advantage_estimator": row.spec["algorithm"]["advantage_estimator"],
            "seed": row.spec["training"]["seed"],
            "total_batches": row.spec["training"]["total_batches"],
            "dispatch_made": int(row.dispatched),
        }
        connection.execute(sa.update(jobs).where(jobs.c.id == row.id).values(**values))


def _scope_idempotency_keys() -> None:
    """A key belongs to a project, and its answer is kept as the text that was sent."""
    connection = op.get_bind()
    old = sa.table("idempotency_keys", *(sa.column(name) for name in ("key", "body_sha", "job_id", "created_unix_s")))
    answer = sa.column("answer", sa.JSON)
    rows = connection.execute(sa.select(*old.c, answer).select_from(old)).mappings().all()
    op.drop_table("idempotency_keys")
    new = op.create_table(
        "idempotency_keys",
        sa.Column("project_id", sa.String(64), primary_key=True),
        sa.Column("key", sa.String(255), primary_key=True),
        sa.Column("body_sha", sa.String(64), nullable=False),
        sa.Column("job_id", sa.String(32), sa.ForeignKey("jobs.id"), nullable=False),
        sa.Column("answer", sa.Text, nullable=False),
        sa.Column("created_unix_s", sa.Float, nullable=False),
    )
    if rows:
        values = [{**row, "project_id": "default", "answer": json.dumps(row["answer"])} for row in rows]
        connection.execute(sa.insert(new), values)
