"""The tables, and the rules that the database enforces."""

from sqlalchemy import (
    JSON,
    Boolean,
    Column,
    ForeignKey,
    Index,
    Integer,
    String,
    Table,
    Text,
    false,
    func,
    true,
)

from smart_accounts.store import schema, webhook_tables
from smart_accounts.store.schema import UtcDateTime

metadata = schema.metadata  # of all tables

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
    Column("requester_issuer", String(255)),
    Column("requester_subject", String(255)),
    Column("company_is_stated", Boolean, nullable=False, server_default=true()),
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
    Column("retry_at", UtcDateTime),
    Column("needs_review", Boolean, nullable=False, server_default=false()),
    Column("approved_at", UtcDateTime),
    Column("is_announced", Boolean, nullable=False, server_default=false()),
    Column("is_reported", Boolean, nullable=False, server_default=false()),
    Column("contested_at", UtcDateTime),
    Column("closed_at", UtcDateTime),  # when an operator closed the active account
    Column("closed_by", String(255)),
    Column("close_reason", Text),
    Column("search_text", Text),  # what a search looks in
    # For the sweep, and to restart the request's workflow:
    Column("reminders", JSON),  # as in the start input; the default if an older release stored it
    Column("run_id", String(64)),  # of its last restart, or else of its last reset
    Column("missing_since", UtcDateTime),  # when its workflow was first not found
    Column("emails_due", Boolean, nullable=False, server_default=false()),
    Column("erased_at", UtcDateTime),  # when the data of a person in it was last erased
    Column("purged_at", UtcDateTime),  # when the data of all people in it was erased
    Column("sequence", Integer, nullable=False, server_default="0"),  # counts its events
)

Index("ix_requests_status", requests.c.status, requests.c.requested_at)
Index("ix_requests_requester", func.lower(requests.c.requester_email), requests.c.requested_at)
Index(
    "ix_requests_owner",
    requests.c.requester_issuer,
    requests.c.requester_subject,
    requests.c.requested_at,
)
Index(
    "ix_requests_run",
    requests.c.run_id,
    sqlite_where=requests.c.run_id.is_not(None),
    postgresql_where=requests.c.run_id.is_not(None),
)
Index(
    "ix_requests_emails_due",
    requests.c.emails_due,
    sqlite_where=requests.c.emails_due,
    postgresql_where=requests.c.emails_due,
)
Index(
    "ix_requests_reported",
    requests.c.requester_issuer,
    requests.c.requester_subject,
    sqlite_where=requests.c.is_reported,
    postgresql_where=requests.c.is_reported,
)
Index(
    "ix_requests_without_owner",
    func.lower(requests.c.requester_email),
    sqlite_where=requests.c.requester_subject.is_(None),
    postgresql_where=requests.c.requester_subject.is_(None),
)
Index(
    "ix_requests_not_purged",
    requests.c.decided_at,
    sqlite_where=requests.c.purged_at.is_(None),
    postgresql_where=requests.c.purged_at.is_(None),
)

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
    Column("mailbox", String(254)),  # of a customer or an added user
    Column("state", String(16), nullable=False),
    Column("at", UtcDateTime, nullable=False),  # if queued: when its five days of refusals began
    Column("answer", Text),
    Column("leased_until", UtcDateTime),  # while an attempt sends it
    # The column keeps its name, because workers of the previous release run during a deploy.
    Column("return_token", String(64), key="return_token_hash"),
)
Index("ix_emails_at", emails.c.at)
Index("ix_emails_mailbox", emails.c.mailbox, emails.c.at)
Index("uq_emails_return_token", emails.c.return_token_hash, unique=True)

announcements = Table(
    "announcements",
    metadata,
    Column("kind", String(32), primary_key=True),  # of the email to operators
    Column("at", UtcDateTime, nullable=False),  # when it was last sent
)

partners = Table(
    "partners",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("company", String(120), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

sessions = Table(
    "sessions",
    metadata,
    Column("id", String(64), primary_key=True),  # SHA-256 of the secret in the cookie
    Column("issuer", String(255), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("email", String(254), nullable=False),
    Column("name", String(120), nullable=False),
    Column("company", String(120), nullable=False),
    Column("is_operator", Boolean, nullable=False),
    Column("email_verified", Boolean, nullable=False),
    Column("csrf", String(64), nullable=False),
    Column("began_at", UtcDateTime, nullable=False, index=True),
    Column("last_used_at", UtcDateTime, nullable=False),
    Column("client_address", String(64), nullable=False),
    Column("user_agent", String(200), nullable=False),
    Column("sealed_id_token", Text),  # encrypted with the secret in the cookie
    Index(None, "issuer", "subject"),
)

drafts = Table(
    "drafts",
    metadata,
    Column("issuer", String(255), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("id", String(64), primary_key=True),
    Column("email", String(254), nullable=False),  # of the person, to erase their data
    Column("fields", JSON, nullable=False),
    Column("rejection", Text),
    Column("is_late", Boolean, nullable=False),
    Column("saved_at", UtcDateTime, nullable=False, index=True),
)

address_owners = Table(
    "address_owners",
    metadata,
    Column("email", String(254), primary_key=True),  # in lower case
    Column("issuer", String(255), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("since", UtcDateTime, nullable=False),
)

people = Table(
    "people",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("issuer", String(255)),
    Column("subject", String(255)),
    Column("email", String(254)),
    Column("name", String(120)),
)
Index("uq_people_issuer_subject", people.c.issuer, people.c.subject, unique=True)
Index("ix_people_email", func.lower(people.c.email))

audit_events = Table(
    "audit_events",
    metadata,
    Column("id", Integer, primary_key=True),
    Column("at", UtcDateTime, nullable=False),
    # Not a foreign key, because a request is sent before the store has it, and may be purged.
    Column("request_id", String(64), index=True),
    Column("role", String(16), nullable=False),
    Column("person_id", ForeignKey("people.id"), nullable=False, index=True),
    Column("action", String(32), nullable=False),
    Column("client_address", String(64)),
    Column("user_agent", String(300)),
    Column("link_ordinal", Integer),
    Column("agreed_text", Text),
)

temporal_namespace = Table(
    "temporal_namespace",
    metadata,
    Column("id", String(64), primary_key=True),  # one row: the namespace of this store's requests
)

idempotency_keys = Table(
    "idempotency_keys",
    metadata,
    Column("key", String(64), primary_key=True),
    Column("call", String(64), nullable=False),
    Column("at", UtcDateTime, nullable=False, index=True),
)

# The tables of webhooks are in a module of their own.
webhook_endpoints = webhook_tables.webhook_endpoints
webhook_deliveries = webhook_tables.webhook_deliveries
