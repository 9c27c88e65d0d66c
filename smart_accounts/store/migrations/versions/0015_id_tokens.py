"""The ID token of a sign-in, which the identity provider wants back at the sign-out."""

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    op.add_column("sessions", sa.Column("sealed_id_token", sa.Text(), nullable=True))
