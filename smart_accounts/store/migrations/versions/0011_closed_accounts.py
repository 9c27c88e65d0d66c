"""Who closed an active account, when and why."""

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    op.add_column("requests", sa.Column("closed_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("requests", sa.Column("closed_by", sa.String(length=255), nullable=True))
    op.add_column("requests", sa.Column("close_reason", sa.Text(), nullable=True))
