"""Who submitted a job: the name of the key, and its id where it stands in the database."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision: str | None = "0004"


def upgrade() -> None:
    op.add_column("jobs", sa.Column("submitted_by", sa.String(128)))
    op.add_column("jobs", sa.Column("key_id", sa.String(16)))
