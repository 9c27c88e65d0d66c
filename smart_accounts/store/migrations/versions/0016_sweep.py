"""What the sweep needs to compare the store with Temporal and to restart a request."""

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    op.add_column("requests", sa.Column("reminders", sa.JSON(), nullable=True))
    op.add_column("requests", sa.Column("run_id", sa.String(64), nullable=True))
    op.add_column("requests", sa.Column("missing_since", sa.DateTime(timezone=True), nullable=True))
    op.add_column(
        "requests",
        sa.Column("emails_due", sa.Boolean(), nullable=False, server_default=sa.false()),
    )
    op.create_index(
        "ix_requests_run",
        "requests",
        ["run_id"],
        sqlite_where=sa.text("run_id IS NOT NULL"),
        postgresql_where=sa.text("run_id IS NOT NULL"),
    )
    op.create_index(
        "ix_requests_emails_due",
        "requests",
        ["emails_due"],
        sqlite_where=sa.text("emails_due = 1"),
        postgresql_where=sa.text("emails_due"),
    )
    op.create_table(
        "temporal_namespace",
        sa.Column("id", sa.String(length=64), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_temporal_namespace"),
    )
