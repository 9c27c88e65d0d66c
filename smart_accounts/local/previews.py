"""One example of every kind of email, so that nobody has to wait 90 days to see them all."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    EmailStatus,
    Requester,
    SmartAccountRequest,
    Status,
)
from smart_accounts.contract.steps import Addressee, Email
from smart_accounts.contract.webhooks import SUBSCRIBABLE, EndpointState
from smart_accounts.local.mailbox import ReceivedEmail
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.webhook_records import Endpoint

_CUSTOMER, _REQUESTER, _USER = Addressee.CUSTOMER, Addressee.REQUESTER, Addressee.ADDED_USER
_DAY = timedelta(days=1)

_SITE = Site(
    base_url="https://accounts.example",
    organisation_name="Smart Accounts",
    support_url="https://help.example/",
    mail_from="no-reply@smart-accounts.example",
)
_COMPOSER = Composer(_SITE)
_REQUEST = SmartAccountRequest(
    account_name="Harbour Logistics",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    note_to_customer="As agreed on the phone.\n\nCall me if anything is unclear.",
    user_emails=("bo@harbour.example", "cy@harbour.example"),
    note_to_added_users="Welcome aboard. Ada looks after the account.",
    requester=Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd"),
)
RIGHT_TO_LEFT = SmartAccountRequest(
    account_name="شركة البحر 24 Trading",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    note_to_customer="דנה, כדאי לדבר מחר.\n\nAs agreed, we speak tomorrow!\n\nتحدث معنا (24)!",
    requester=Requester(email="dana@partner.example", name="דנה Levy", company='כהנא בע"מ Ltd'),
)
"""Names and a note in Arabic and Hebrew. Each name ends in Latin letters."""
_DECLINED = "We do not know this partner."
_REFUSED = "550 5.1.1 <ada@harbour.example>: no such user here"
_ODD = "The customer's address is not at the account's domain."
_TAKEN = "The domain already has an active Smart Account."
_CLOSED = "The company asked us to close the account."
_RECEIVED = Email(kind=EmailKind.REQUEST_RECEIVED, to=_REQUESTER)
_EXAMPLES = {
    Email(kind=EmailKind.ACTIVATION, to=_CUSTOMER): (Status.PENDING, 0, None),
    _RECEIVED: (Status.PENDING, 0, None),
    Email(kind=EmailKind.REQUEST_RECEIVED, to=_REQUESTER, number=2): (Status.PENDING, 0, None),
    Email(kind=EmailKind.REMINDER, to=_CUSTOMER): (Status.PENDING, 60, None),
    Email(kind=EmailKind.EXPIRING, to=_REQUESTER): (Status.PENDING, 83, None),
    Email(kind=EmailKind.ACTIVATED, to=_REQUESTER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.WELCOME, to=_CUSTOMER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.ACCESS_GRANTED, to=_USER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.CLOSED, to=_CUSTOMER): (Status.ACTIVE, 200, None),
    Email(kind=EmailKind.CLOSED, to=_REQUESTER): (Status.ACTIVE, 200, None),
    Email(kind=EmailKind.CLOSED, to=_USER): (Status.ACTIVE, 200, None),
    Email(kind=EmailKind.DECLINED, to=_REQUESTER): (Status.DECLINED, 3, _DECLINED),
    Email(kind=EmailKind.WITHDRAWN, to=_CUSTOMER): (Status.WITHDRAWN, 3, None),
    Email(kind=EmailKind.LAPSED, to=_CUSTOMER): (Status.LAPSED, 90, None),
    Email(kind=EmailKind.LAPSED, to=_REQUESTER): (Status.LAPSED, 90, None),
    Email(kind=EmailKind.UNDELIVERABLE, to=_REQUESTER): (Status.UNDELIVERABLE, 0, _REFUSED),
    Email(kind=EmailKind.REJECTED, to=_REQUESTER): (Status.REJECTED, 0, _TAKEN),
}
"""Each email, with the status of its request, the day it is sent and the reason for the end."""


def previews() -> Mapping[str, ReceivedEmail]:
    """Return the examples by name, in the order of a request's life, as if sent just now."""
    return dict(_compose(datetime.now(UTC)))


def _compose(now: datetime) -> Iterator[tuple[str, ReceivedEmail]]:
    for email, (status, day, reason) in _EXAMPLES.items():
        requested_at = now - day * _DAY
        request = replace(
            StoredRequest.new("preview", _REQUEST, requested_at, status=status, reason=reason),
            decided_at=now if status.is_final else None,
            decided_by="customer" if status is Status.ACTIVE else None,
            company_is_stated=False,
            closed_at=now,
            close_reason=_CLOSED,
        )
        bounced = EmailStatus(
            kind=EmailKind.REMINDER,
            recipient=request.customer_email,
            state=EmailState.BOUNCED,
            at=requested_at + 60 * _DAY,
            answer="552 5.2.2 Mailbox full",
        )
        link = f"{_SITE.base_url}/activate/preview" if email.to == _CUSTOMER else None
        composed = _COMPOSER.compose(email, request, link, now=now, undelivered=[bounced])
        name = f"{email.kind}-{email.to}"
        if email.number > 1:
            name += f"-{email.number}"
        yield name, ReceivedEmail(name, now, (email.address_in(request),), composed.as_bytes())
    request = StoredRequest.new("preview", RIGHT_TO_LEFT, now, status=Status.PENDING)
    email = Email(kind=EmailKind.ACTIVATION, to=_CUSTOMER)
    link = f"{_SITE.base_url}/activate/preview"
    composed = _COMPOSER.compose(email, request, link, now=now)
    name, to = "activation-right-to-left", request.customer_email
    yield name, ReceivedEmail(name, now, (to,), composed.as_bytes())
    yield from _in_review(now)
    yield _webhook_disabled(now)


def _in_review(now: datetime) -> Iterator[tuple[str, ReceivedEmail]]:
    waiting = [
        StoredRequest.new("preview", each, now, status=Status.IN_REVIEW, needs_attention=(_ODD,))
        for each in (
            _REQUEST.model_copy(update={"customer_email": "ada@consultants.example"}),
            _REQUEST.model_copy(
                update={"account_name": "Hill Farm", "account_domain": "telstra.com"}
            ),
        )
    ]
    received = _COMPOSER.compose(_RECEIVED, waiting[0], None, now=now)
    name, to = "request-received-in-review", waiting[0].requester_email
    yield name, ReceivedEmail(name, now, (to,), received.as_bytes())
    to = "operators@smart-accounts.example"
    composed = _COMPOSER.compose_review_needed("preview", waiting, to=to)
    yield "review-needed", ReceivedEmail("review-needed", now, (to,), composed.as_bytes())


def _webhook_disabled(now: datetime) -> tuple[str, ReceivedEmail]:
    endpoint = Endpoint(
        id="preview",
        owner=Identity("https://login.example", "pat"),
        owner_email=_REQUEST.requester.email,
        for_all_requests=False,
        url="https://hooks.harbour.example/smart-accounts",
        description="Our customer database",
        event_types=SUBSCRIBABLE,
        state=EndpointState.DISABLED,
        sealed_secret="",
        previous_sealed_secret=None,
        previous_secret_until=None,
        created_at=now - 30 * _DAY,
        failing_since=now - 5 * _DAY,
        last_failed_at=now,
        disabled_at=now,
        owner_told_at=None,
    )
    composed = _COMPOSER.compose_webhook_disabled(endpoint)
    name, to = "webhook-disabled", endpoint.owner_email
    return name, ReceivedEmail(name, now, (to,), composed.as_bytes())
