"""Return paths and idempotency keys, and indexes for lists and limits."""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.add_column("emails", sa.Column("return_token", sa.String(length=32), nullable=True))
    op.create_index("uq_emails_return_token", "emails", ["return_token"], unique=True)
    op.add_column("requests", sa.Column("idempotency_key", sa.String(length=64), nullable=True))
    op.create_index("ix_requests_idempotency_key", "requests", ["idempotency_key"])
    op.create_index("ix_requests_requested_at", "requests", ["requested_at"])
    op.create_index("ix_requests_customer", "requests", [sa.text("lower(customer_email)")])
    op.create_index(
        "ix_requests_requester", "requests", [sa.text("lower(requester_email)"), "requested_at"]
    )
