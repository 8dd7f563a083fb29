"""Annotations of jobs by users: tags, notes, and whether the job is archived."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision: str | None = "0003"


def upgrade() -> None:
    for column in (
        sa.Column("tags", sa.String(640), nullable=False, server_default=""),
        sa.Column("notes", sa.Text),
        sa.Column("archived", sa.Boolean, nullable=False, server_default=sa.false()),
    ):
        op.add_column("jobs", column)
