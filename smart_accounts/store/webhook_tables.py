"""The tables of webhooks: endpoints, and what is delivered to them."""

from sqlalchemy import JSON, Boolean, Column, ForeignKey, Index, Integer, String, Table, Text, not_

from smart_accounts.store.schema import UtcDateTime, metadata

webhook_endpoints = Table(
    "webhook_endpoints",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("issuer", String(255), nullable=False),
    Column("subject", String(255), nullable=False),
    Column("owner_email", String(254), nullable=False),
    Column("for_all_requests", Boolean, nullable=False),  # of an operator
    Column("url", String(2048), nullable=False),
    Column("description", String(200), nullable=False),
    Column("event_types", JSON, nullable=False),
    Column("state", String(16), nullable=False),
    Column("sealed_secret", Text, nullable=False),
    Column("previous_sealed_secret", Text),
    Column("previous_secret_until", UtcDateTime),
    Column("created_at", UtcDateTime, nullable=False),
    Column("failing_since", UtcDateTime),
    Column("last_failed_at", UtcDateTime),
    Column("disabled_at", UtcDateTime),
    Column("owner_told_at", UtcDateTime),  # by email, that the endpoint was disabled
    Index(None, "issuer", "subject"),
)
Index(
    "ix_webhook_endpoints_for_all_requests",
    webhook_endpoints.c.for_all_requests,
    sqlite_where=webhook_endpoints.c.for_all_requests,
    postgresql_where=webhook_endpoints.c.for_all_requests,
)

webhook_deliveries = Table(
    "webhook_deliveries",
    metadata,
    Column("id", String(36), primary_key=True),
    Column("endpoint_id", ForeignKey("webhook_endpoints.id", ondelete="CASCADE"), nullable=False),
    Column("event_id", String(36), nullable=False),  # the same for every endpoint and every try
    Column("type", String(40), nullable=False),
    # Not a foreign key, because a purge removes only what names people.
    Column("request_id", String(64), index=True),
    Column("sequence", Integer),
    Column("body", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("created_at", UtcDateTime, nullable=False),
    Column("try_until", UtcDateTime, nullable=False),
    Column("next_at", UtcDateTime, nullable=False),
    Column("handed_over", Boolean, nullable=False),  # to Temporal
    Column("attempts", Integer, nullable=False),
    Column("last_at", UtcDateTime),
    Column("status_code", Integer),
    Column("error", String(200)),
    Column("response", String(300)),
    Column("took_ms", Integer),
    Index(None, "endpoint_id", "created_at"),
)
_is_pending = webhook_deliveries.c.state == "pending"
Index(
    "ix_webhook_deliveries_pending",
    webhook_deliveries.c.endpoint_id,
    webhook_deliveries.c.next_at,
    sqlite_where=_is_pending,
    postgresql_where=_is_pending,
)
Index(
    "ix_webhook_deliveries_not_handed_over",
    webhook_deliveries.c.created_at,
    sqlite_where=not_(webhook_deliveries.c.handed_over),
    postgresql_where=not_(webhook_deliveries.c.handed_over),
)
