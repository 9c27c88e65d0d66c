"""One of each email, made from an example, to be looked at without living through 90 days."""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta

from smart_accounts.contract.messages import (
    Addressee,
    Email,
    EmailKind,
    EmailState,
    EmailStatus,
    Status,
)
from smart_accounts.local.mailbox import Mail
from smart_accounts.mail.compose import Composer, Site, recipient
from smart_accounts.store.records import StoredRequest

_CUSTOMER, _REQUESTER, _USER = Addressee.CUSTOMER, Addressee.REQUESTER, Addressee.ADDED_USER
_DAY = timedelta(days=1)

_SITE = Site(
    base_url="https://accounts.example",
    organisation_name="Smart Accounts",
    support_url="https://help.example/",
    mail_from="no-reply@smart-accounts.example",
)
_REQUEST = StoredRequest(
    id="preview",
    workflow_id="smart-account-harbour.example",
    status=Status.PENDING,
    account_name="Harbour Logistics",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    requester_email="pat@partner.example",
    requester_name="Pat Lee",
    requester_company="Partner Ltd",
    note_to_customer="As agreed on the phone.\n\nCall me if anything is unclear.",
    note_to_added_users="Welcome aboard. Ada looks after the account.",
    added_users=("bo@harbour.example", "cy@harbour.example"),
    needs_attention=(),
    requested_at=datetime(2026, 1, 1, tzinfo=UTC),  # and the deadline: each email has its own
    deadline=datetime(2026, 4, 1, tzinfo=UTC),
    link_ordinal=1,
    signalled=None,
    decided_at=None,
    decided_by=None,
    reason=None,
)
_MAILS = {
    Email(kind=EmailKind.ACTIVATION, to=_CUSTOMER): (Status.PENDING, 0, None),
    Email(kind=EmailKind.REQUEST_RECEIVED, to=_REQUESTER): (Status.PENDING, 0, None),
    Email(kind=EmailKind.REMINDER, to=_CUSTOMER): (Status.PENDING, 60, None),
    Email(kind=EmailKind.EXPIRING, to=_REQUESTER): (Status.PENDING, 83, None),
    Email(kind=EmailKind.ACTIVATED, to=_REQUESTER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.WELCOME, to=_CUSTOMER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.ACCESS_GRANTED, to=_USER): (Status.ACTIVE, 3, None),
    Email(kind=EmailKind.DECLINED, to=_REQUESTER): (Status.DECLINED, 3, "We know no such partner."),
    Email(kind=EmailKind.WITHDRAWN, to=_CUSTOMER): (Status.WITHDRAWN, 3, None),
    Email(kind=EmailKind.LAPSED, to=_CUSTOMER): (Status.LAPSED, 90, None),
    Email(kind=EmailKind.LAPSED, to=_REQUESTER): (Status.LAPSED, 90, None),
    Email(kind=EmailKind.UNDELIVERABLE, to=_REQUESTER): (
        *(Status.UNDELIVERABLE, 0),
        "550 5.1.1 <ada@harbour.example>: no such user here",
    ),
    Email(kind=EmailKind.REJECTED, to=_REQUESTER): (
        *(Status.REJECTED, 0),
        "The domain already has an active Smart Account.",
    ),
}
"""Each email with the status, the day and the reason that lead to it."""


def previews() -> Mapping[str, Mail]:
    """By name, in the order of a request's life; they look as if sent right now."""
    return dict(_compose(datetime.now(UTC)))


def _compose(now: datetime) -> Iterator[tuple[str, Mail]]:
    composer = Composer(_SITE)
    for email, (status, day, reason) in _MAILS.items():
        requested_at = now - day * _DAY
        request = replace(
            _REQUEST,
            status=status,
            requested_at=requested_at,
            deadline=requested_at + 90 * _DAY,
            decided_at=now if status.is_final else None,
            decided_by="customer" if status == Status.ACTIVE else None,
            reason=reason,
        )
        returned = EmailStatus(
            kind=EmailKind.REMINDER,
            recipient=request.customer_email,
            state=EmailState.BOUNCED,
            at=requested_at + 60 * _DAY,
            answer="552 5.2.2 Mailbox full",
        )
        link = f"{_SITE.base_url}/activate/preview" if email.to == _CUSTOMER else None
        composed = composer.compose(email, request, link, now=now, undelivered=[returned])
        name = f"{email.kind}-{email.to}"
        yield name, Mail(name, now, (recipient(email, request),), composed.as_bytes())
