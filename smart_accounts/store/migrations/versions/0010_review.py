"""Requests in review, reported and contested requests, and the emails to each mailbox."""

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    for name in ("needs_review", "is_announced", "is_reported"):
        op.add_column(
            "requests", sa.Column(name, sa.Boolean(), server_default=sa.false(), nullable=False)
        )
    for name in ("retry_at", "approved_at", "contested_at"):
        op.add_column("requests", sa.Column(name, sa.DateTime(timezone=True), nullable=True))
    op.create_table(
        "announcements",
        sa.Column("kind", sa.String(length=32), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("kind", name="pk_announcements"),
    )
    op.add_column("emails", sa.Column("mailbox", sa.String(length=254), nullable=True))
    op.create_index("ix_emails_mailbox", "emails", ["mailbox", "at"])
    op.create_index("ix_requests_status", "requests", ["status", "requested_at"])
    op.drop_index("ix_requests_customer", "requests")
