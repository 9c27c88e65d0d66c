"""The lease of an email that is being sent."""

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def upgrade() -> None:
    op.add_column("emails", sa.Column("leased_until", sa.DateTime(timezone=True), nullable=True))
