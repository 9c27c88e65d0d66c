"""An index that finds expired idempotency keys."""

from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    op.create_index("ix_idempotency_keys_at", "idempotency_keys", ["at"])
