"""Who made each request, and the audit trail."""

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    op.add_column("requests", sa.Column("requester_issuer", sa.String(length=255), nullable=True))
    op.add_column("requests", sa.Column("requester_subject", sa.String(length=255), nullable=True))
    op.add_column(
        "requests",
        # Nobody knows where the companies of older requests come from.
        sa.Column("company_is_stated", sa.Boolean(), nullable=False, server_default=sa.true()),
    )
    op.create_index(
        "ix_requests_owner", "requests", ["requester_issuer", "requester_subject", "requested_at"]
    )
    op.create_index(
        "ix_requests_without_owner",
        "requests",
        [sa.text("lower(requester_email)")],
        sqlite_where=sa.text("requester_subject IS NULL"),
        postgresql_where=sa.text("requester_subject IS NULL"),
    )
    op.create_table(
        "address_owners",
        sa.Column("email", sa.String(length=254), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=False),
        sa.Column("subject", sa.String(length=255), nullable=False),
        sa.Column("since", sa.DateTime(timezone=True), nullable=False),
        sa.PrimaryKeyConstraint("email", name="pk_address_owners"),
    )
    _create_audit_trail()


def _create_audit_trail() -> None:
    op.create_table(
        "people",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("issuer", sa.String(length=255), nullable=True),
        sa.Column("subject", sa.String(length=255), nullable=True),
        sa.Column("email", sa.String(length=254), nullable=True),
        sa.Column("name", sa.String(length=120), nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
    )
    op.create_index("uq_people_issuer_subject", "people", ["issuer", "subject"], unique=True)
    op.create_index("ix_people_email", "people", [sa.text("lower(email)")])
    op.create_table(
        "audit_events",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("at", sa.DateTime(timezone=True), nullable=False),
        sa.Column("request_id", sa.String(length=64), nullable=True),
        sa.Column("role", sa.String(length=16), nullable=False),
        sa.Column("person_id", sa.Integer(), nullable=False),
        sa.Column("action", sa.String(length=32), nullable=False),
        sa.Column("client_address", sa.String(length=64), nullable=True),
        sa.Column("user_agent", sa.String(length=300), nullable=True),
        sa.Column("link_ordinal", sa.Integer(), nullable=True),
        sa.Column("agreed_text", sa.Text(), nullable=True),
        sa.ForeignKeyConstraint(["person_id"], ["people.id"], name="fk_audit_events_person_id"),
        sa.PrimaryKeyConstraint("id", name="pk_audit_events"),
    )
    op.create_index("ix_audit_events_request_id", "audit_events", ["request_id"])
    op.create_index("ix_audit_events_person_id", "audit_events", ["person_id"])
