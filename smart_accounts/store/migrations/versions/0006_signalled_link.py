"""The link that an answer came through, so that a new approver can still answer."""

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"


def upgrade() -> None:
    op.add_column("requests", sa.Column("signalled_link", sa.Integer(), nullable=True))
