"""The tables, and the rules that the database enforces."""

from datetime import UTC, datetime

from sqlalchemy import (
    JSON,
    Column,
    DateTime,
    Dialect,
    ForeignKey,
    Index,
    Integer,
    MetaData,
    String,
    Table,
    Text,
    TypeDecorator,
    func,
)


class UtcDateTime(TypeDecorator[datetime]):
    """Datetimes in UTC with a time zone, on every database. SQLite stores no time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value.astimezone(UTC) if value else None

    def process_result_value(self, value: datetime | None, _: Dialect) -> datetime | None:
        return value.replace(tzinfo=UTC) if value and value.tzinfo is None else value


metadata = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
    }
)

requests = Table(
    "requests",
    metadata,
    Column("id", String(64), primary_key=True),  # the first run id of the workflow
    Column("workflow_id", String(300), nullable=False, index=True),
    Column("status", String(16), nullable=False),
    Column("account_name", String(120), nullable=False),
    Column("account_domain", String(253), nullable=False, index=True),
    Column("customer_email", String(254), nullable=False),
    Column("requester_email", String(254), nullable=False),
    Column("requester_name", String(120), nullable=False),
    Column("requester_company", String(120), nullable=False),
    Column("note_to_customer", Text),
    Column("note_to_added_users", Text),
    Column("added_users", JSON, nullable=False),
    Column("needs_attention", JSON, nullable=False),
    Column("requested_at", UtcDateTime, nullable=False, index=True),
    Column("deadline", UtcDateTime, nullable=False),
    Column("link_ordinal", Integer, nullable=False),
    Column("idempotency_key", String(64), index=True),
    Column("signalled", String(16)),
    Column("signalled_link", Integer),
    Column("decided_at", UtcDateTime),
    Column("decided_by", String(254)),
    Column("reason", Text),
    Column("closed_at", UtcDateTime),  # when an operator closed the active account
    Column("closed_by", String(255)),
    Column("close_reason", Text),
)

Index("ix_requests_customer", func.lower(requests.c.customer_email))
Index("ix_requests_requester", func.lower(requests.c.requester_email), requests.c.requested_at)

accounts = Table(
    "accounts",
    metadata,
    Column("id", ForeignKey("requests.id"), primary_key=True),  # one account per request
    Column("domain", String(253), nullable=False),
    Column("name", String(120), nullable=False),
    Column("state", String(16), nullable=False),  # provisional, active, closed
    Column("activated_at", UtcDateTime),
)
Index(
    "uq_accounts_open_domain",
    accounts.c.domain,
    unique=True,
    sqlite_where=accounts.c.state != "closed",
    postgresql_where=accounts.c.state != "closed",
)

account_users = Table(
    "account_users",
    metadata,
    Column("account_id", ForeignKey("accounts.id"), primary_key=True),
    Column("email", String(254), primary_key=True),
    Column("role", String(64), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

activation_links = Table(
    "activation_links",
    metadata,
    Column("request_id", ForeignKey("requests.id"), primary_key=True),
    Column("ordinal", Integer, primary_key=True),
    Column("token_hash", String(64), nullable=False, unique=True),
)

emails = Table(
    "emails",
    metadata,
    Column("request_id", ForeignKey("requests.id"), primary_key=True),
    Column("kind", String(32), primary_key=True),
    Column("addressee", String(16), primary_key=True),
    Column("number", Integer, primary_key=True),
    Column("message_id", String(255), nullable=False),
    Column("recipient", String(254), nullable=False),
    Column("state", String(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),  # of a queued email: when it was first refused
    Column("answer", Text),
    Column("return_token", String(32)),
)
Index("uq_emails_return_token", emails.c.return_token, unique=True)

partners = Table(
    "partners",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("company", String(120), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("call", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
)
