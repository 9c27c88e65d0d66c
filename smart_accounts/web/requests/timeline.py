"""The timeline of a request: what has happened, what is in progress and what comes next.

It comes from the store, which keeps requests longer than Temporal does. Only the workflow knows
which emails nobody has tried to send yet and when the next reminder is due. Both are left out if
no worker responds.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from itertools import groupby

from smart_accounts.contract.messages import (
    CLOSING_TIME,
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.mail.refusals import NOT_ACCEPTED
from smart_accounts.store.audit import Action, AuditEvent
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.text import isolated, utc
from smart_accounts.web.requests.labels import (
    EMAIL_LABELS,
    STATED,
    Delivery,
    decided_by,
    delivery_of,
)


class Tone(StrEnum):
    DONE = "done"
    GOOD = "good"
    BAD = "bad"
    WAITING = "waiting"
    NEXT = "next"


_DELIVERY: dict[Delivery, tuple[Tone, tuple[str, ...]]] = {
    Delivery.SENT: (Tone.DONE, ()),
    Delivery.WAITING: (
        Tone.WAITING,
        ("The mail server asks us to try again later. We keep trying for five days.",),
    ),
    Delivery.DELAYED: (
        Tone.WAITING,
        ("Sending is delayed. The address is not the reason. We keep trying.",),
    ),
    Delivery.RETURNED: (
        Tone.BAD,
        (
            "It was sent and came back. The address may still be right.",
            "The operators of this service have been told. It is not sent again by itself.",
        ),
    ),
    Delivery.BOUNCED: (Tone.BAD, ("It was sent, but could not be delivered.",)),
    Delivery.REFUSED: (Tone.BAD, ("The mail server did not accept it.",)),
    Delivery.NOT_DELIVERED: (
        Tone.BAD,
        ("The mail server did not accept it for five days. The address may still be right.",),
    ),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One entry of the timeline. ``quote`` is text from the mail server or the customer."""

    title: str
    tone: Tone
    at: datetime | None = None
    lines: tuple[str, ...] = ()
    quote: str | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """One request, its emails and its audit trail, as the store has them."""

    request: StoredRequest
    emails: tuple[EmailStatus, ...]
    audit_trail: tuple[AuditEvent, ...]

    @property
    def version(self) -> str:
        """A short hash that changes whenever the request, an email or the audit trail does."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def is_settled(self, now: datetime) -> bool:
        """Return True if nothing more will happen."""
        last = self.request.closed_at or self.request.decided_at
        return self.request.status.is_final and (last is None or now > last + CLOSING_TIME)

    @classmethod
    async def load(cls, store: AccountStore, request_id: str) -> "Snapshot | None":
        request = await store.requests.find(request_id)
        if request is None:
            return None
        return cls(
            request=request,
            emails=await store.emails.statuses(request),
            audit_trail=await store.audit.of_request(request_id),
        )


def timeline(
    snapshot: Snapshot, workflow_status: RequestStatus | None, *, for_operator: bool = False
) -> list[Step]:
    """Return the steps, oldest first. Steps without a time come last.

    Only operators see which operator acted.
    """
    request = snapshot.request
    past = [_requested(request), *_email_steps(snapshot.emails)]
    if request.approved_at:
        past.append(_approval(snapshot, request.approved_at))
    if request.decided_at and (request.status != Status.REJECTED or request.needs_review):
        past.append(_decision(snapshot, request.decided_at))
    if request.closed_at:
        past.append(_closing(snapshot, request.closed_at, for_operator=for_operator))
    past.sort(key=lambda step: step.at or request.requested_at)
    in_workflow = workflow_status.emails if workflow_status else ()
    waiting = unsent(snapshot.emails, in_workflow)
    return [*past, *map(_unsent_email, waiting), *_next(request, workflow_status)]


def unsent(
    stored: Iterable[EmailStatus], in_workflow: Iterable[EmailStatus]
) -> Iterator[EmailStatus]:
    """Yield the emails that the workflow has queued and that nobody has tried to send yet."""
    tried = Counter((each.kind, each.recipient) for each in stored)
    for each in in_workflow:
        key = (each.kind, each.recipient)
        if tried[key]:
            tried[key] -= 1
        elif each.state == EmailState.QUEUED:
            yield each


def _requested(request: StoredRequest) -> Step:
    by = f"By {isolated(request.requester_name)}, {isolated(request.requester_company)}."
    if request.needs_review:
        return Step(
            title="Requested",
            tone=Tone.DONE,
            at=request.requested_at,
            lines=(by, "It is unusual, so an operator reviews it first."),
        )
    if request.status == Status.REJECTED:
        return Step(
            title="Requested and rejected by our checks",
            tone=Tone.BAD,
            at=request.requested_at,
            lines=(by, request.reason or ""),
        )
    return Step(
        title="Requested",
        tone=Tone.DONE,
        at=request.requested_at,
        lines=(by, "Our checks passed. The account is provisional."),
    )


def _email_steps(emails: Iterable[EmailStatus]) -> Iterator[Step]:
    def group(email: EmailStatus) -> tuple[object, ...]:
        # Several people get the same email at the same time, so these emails share one step.
        is_shared = email.kind in (EmailKind.ACCESS_GRANTED, EmailKind.CLOSED)
        own = () if is_shared else (email.at, email.recipient)
        return email.kind, email.state, email.answer, own

    for _, grouped in groupby(emails, group):
        yield _email_step(list(grouped))


def _email_step(emails: list[EmailStatus]) -> Step:
    first = emails[0]
    delivery = delivery_of(first)
    tone, lines = _DELIVERY[delivery]
    label = "not accepted yet" if delivery is Delivery.WAITING else delivery
    return Step(
        title=f"{EMAIL_LABELS[first.kind]} {label}",
        tone=tone,
        at=first.at,
        lines=("To " + ", ".join(email.recipient for email in emails), *lines),
        quote=None if first.answer == NOT_ACCEPTED else first.answer,
    )


def _unsent_email(email: EmailStatus) -> Step:
    return Step(
        title=f"{EMAIL_LABELS[email.kind]} on its way",
        tone=Tone.WAITING,
        lines=(f"To {email.recipient}. It has not been sent yet.",),
    )


def _approval(snapshot: Snapshot, at: datetime) -> Step:
    by = _by_operator(snapshot, Action.APPROVE)
    return Step(title="Approved", tone=Tone.DONE, at=at, lines=(f"{by}.",))


def _by_operator(snapshot: Snapshot, action: Action, subject: str = "") -> str:
    is_proven = any(event.action is action for event in snapshot.audit_trail)
    is_known = is_proven or snapshot.request.purged_at
    return f"By an operator{subject}" + ("" if is_known else STATED)


def _decision(snapshot: Snapshot, at: datetime) -> Step:
    request, by = snapshot.request, decided_by(snapshot.request, snapshot.audit_trail)
    title, tone, line = {
        Status.ACTIVE: ("Accepted: the account is active", Tone.GOOD, f"By {by}."),
        Status.DECLINED: ("Declined", Tone.BAD, f"By {by}. No account was opened."),
        Status.WITHDRAWN: ("Withdrawn", Tone.DONE, f"By {by}. No account was opened."),
        Status.LAPSED: (
            "Lapsed",
            Tone.BAD,
            "The customer did not answer in time. No account was opened."
            if request.customer_was_asked
            else "No account was opened.",
        ),
        Status.REJECTED: ("Rejected", Tone.BAD, f"By {by}. No account was opened."),
        Status.UNDELIVERABLE: (
            "Ended as undeliverable",
            Tone.BAD,
            f"The activation email did not reach {request.customer_email}.",
        ),
    }[request.status]
    return Step(title=title, tone=tone, at=at, lines=(line,), quote=request.reason)


def _closing(snapshot: Snapshot, at: datetime, *, for_operator: bool) -> Step:
    operator = isolated(snapshot.request.closed_by or "")
    subject = f", recorded as “{operator}”" if for_operator else ""
    return Step(
        title="Account closed",
        tone=Tone.BAD,
        at=at,
        lines=(
            f"{_by_operator(snapshot, Action.CLOSE, subject)}.",
            "Access ended, and the domain became free.",
        ),
        quote=snapshot.request.close_reason,
    )


def _next(request: StoredRequest, workflow_status: RequestStatus | None) -> Iterator[Step]:
    answer = request.answer
    if not request.status.is_final and answer:
        kind = "acceptance" if answer == "accepted" else "answer"
        line = f"We have the customer's {kind}. It takes effect in a moment."
        yield Step(title="Answered", tone=Tone.WAITING, lines=(line,))
    elif not request.status.is_final and workflow_status and workflow_status.decided_at:
        line = "A decision was made. It takes effect in a moment."
        yield Step(title="Decided", tone=Tone.WAITING, lines=(line,))
    elif workflow_status and workflow_status.next_step:
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(workflow_status.next_step,))
    elif request.status is Status.IN_REVIEW:
        line = f"Waits for an operator's review until {utc(request.review_ends_at)}."
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(line,))
    elif not request.status.is_final:
        line = f"Waits for the customer's answer until {utc(request.deadline)}."
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(line,))
