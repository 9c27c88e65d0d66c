"""Endpoints, deliveries and tries, as the store returns and takes them."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Self
from uuid import uuid4

from sqlalchemy import Row

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.webhooks import DeliveryState, EndpointState, EventType


@dataclass(frozen=True, kw_only=True)
class NewEndpoint:
    """What a partner enters for an endpoint. Only operators may get events of all requests.

    ``id`` is the endpoint's. Registering the same id again adds nothing.
    """

    id: str = field(default_factory=lambda: str(uuid4()))
    url: str
    description: str
    event_types: Sequence[EventType]
    for_all_requests: bool = False


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """An endpoint. Secrets are encrypted. ``previous_sealed_secret`` is from before a rotation.

    ``failing_since`` is the time of the first of the present series of failures.
    """

    id: str
    owner: Identity
    owner_email: str
    for_all_requests: bool
    url: str
    description: str
    event_types: tuple[EventType, ...]
    state: EndpointState
    sealed_secret: str
    previous_sealed_secret: str | None
    previous_secret_until: datetime | None
    created_at: datetime
    failing_since: datetime | None
    last_failed_at: datetime | None
    disabled_at: datetime | None
    owner_told_at: datetime | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        owner = Identity(fields.pop("issuer"), fields.pop("subject"))
        # A newer release may know more types.
        types = tuple(each for each in EventType if each in row.event_types)
        known = {"owner": owner, "event_types": types, "state": EndpointState(row.state)}
        return cls(**fields | known)


@dataclass(frozen=True, kw_only=True)
class Delivery:
    """One event for one endpoint, and what became of the last try.

    ``event_id`` is the ``webhook-id``. ``error`` has our own words, and ``response`` the first
    characters of the receiver's response.
    """

    id: str
    endpoint_id: str
    event_id: str
    type: str
    request_id: str | None
    sequence: int | None
    body: str
    state: DeliveryState
    created_at: datetime
    try_until: datetime
    next_at: datetime
    handed_over: bool
    attempts: int
    last_at: datetime | None
    status_code: int | None
    error: str | None
    response: str | None
    took_ms: int | None

    @classmethod
    def of(cls, row: Row[Any]) -> Self:
        fields = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
        return cls(**fields | {"state": DeliveryState(row.state)})


@dataclass(frozen=True, kw_only=True)
class Attempt:
    """What became of one try. ``error`` has our own words, and is None if it was delivered."""

    status_code: int | None = None
    error: str | None = None
    response: str | None = None
    took_ms: int | None = None

    @property
    def is_delivered(self) -> bool:
        return self.error is None
