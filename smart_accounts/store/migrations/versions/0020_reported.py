"""Find out quickly whether a customer reported any request of a requester."""

import sqlalchemy as sa
from alembic import op

revision = "0020"
down_revision = "0019"


def upgrade() -> None:
    op.create_index(
        "ix_requests_reported",
        "requests",
        ["requester_issuer", "requester_subject"],
        sqlite_where=sa.text("is_reported = 1"),
        postgresql_where=sa.text("is_reported"),
    )
