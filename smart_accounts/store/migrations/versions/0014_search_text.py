"""The text of each request that a search looks in. ``migrate`` fills it for older requests."""

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    # Workers of the previous release store requests without it.
    op.add_column("requests", sa.Column("search_text", sa.Text(), nullable=True))
