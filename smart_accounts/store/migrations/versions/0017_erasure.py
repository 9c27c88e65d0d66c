"""When the data of a person in a request was erased, and when the request was purged."""

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.add_column("requests", sa.Column("erased_at", sa.DateTime(timezone=True), nullable=True))
    op.add_column("requests", sa.Column("purged_at", sa.DateTime(timezone=True), nullable=True))
    op.create_index(
        "ix_requests_not_purged",
        "requests",
        ["decided_at"],
        sqlite_where=sa.text("purged_at IS NULL"),
        postgresql_where=sa.text("purged_at IS NULL"),
    )
