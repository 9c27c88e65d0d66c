"""Find out quickly whether any email was sent since a certain time."""

from alembic import op

revision = "0012"
down_revision = "0011"


def upgrade() -> None:
    op.create_index("ix_emails_at", "emails", ["at"])
