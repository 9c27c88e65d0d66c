"""One request as a timeline: what happened, what is under way and what comes next.

The store is the source, also when Temporal no longer has the request. Only the workflow knows
which emails were never tried and when the next reminder is due. Both are left out if no worker
responds.
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
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.text import utc
from smart_accounts.web.requests.labels import EMAIL_LABELS, decided_by


class Tone(StrEnum):
    DONE = "done"
    GOOD = "good"
    BAD = "bad"
    WAITING = "waiting"
    NEXT = "next"


_DELIVERY: dict[EmailState, tuple[str, Tone, tuple[str, ...]]] = {
    EmailState.SENT: ("sent", Tone.DONE, ()),
    EmailState.QUEUED: (
        "not accepted yet",
        Tone.WAITING,
        ("The mail server asks us to try again later. We do so for five days.",),
    ),
    EmailState.BOUNCED: (
        "came back",
        Tone.BAD,
        ("It was sent, but could not be delivered.",),
    ),
    EmailState.FAILED: ("refused", Tone.BAD, ("The mail server does not accept it.",)),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    """One entry of the timeline. ``written`` is text of the mail server or the customer."""

    title: str
    tone: Tone
    at: datetime | None = None
    lines: tuple[str, ...] = ()
    written: str | None = None


@dataclass(frozen=True, kw_only=True)
class Snapshot:
    """What the store has about one request."""

    request: StoredRequest
    emails: tuple[EmailStatus, ...]

    @property
    def version(self) -> str:
        """A short hash that differs whenever something changed."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def is_settled(self, now: datetime) -> bool:
        """Return True if nothing more will happen."""
        decided = self.request.decided_at
        return self.request.status.is_final and (decided is None or now > decided + CLOSING_TIME)

    @classmethod
    async def load(cls, store: AccountStore, request_id: str) -> "Snapshot | None":
        request = await store.requests.find(request_id)
        if request is None:
            return None
        return cls(request=request, emails=await store.emails.statuses(request))


def timeline(snapshot: Snapshot, live: RequestStatus | None) -> list[Step]:
    """Return the steps, oldest first. Steps without a time come last."""
    request = snapshot.request
    past = [_requested(request), *_email_steps(snapshot.emails)]
    if request.decided_at and request.status != Status.REJECTED:
        past.append(_decision(request, request.decided_at))
    past.sort(key=lambda step: step.at or request.requested_at)
    queued = untried(snapshot.emails, live.emails if live else ())
    return [*past, *map(_untried_email, queued), *_next(request, live)]


def untried(stored: Iterable[EmailStatus], live: Iterable[EmailStatus]) -> Iterator[EmailStatus]:
    """Yield the emails that the workflow has queued and nobody has tried to send yet."""
    tried = Counter((each.kind, each.recipient) for each in stored)
    for each in live:
        key = (each.kind, each.recipient)
        if tried[key]:
            tried[key] -= 1
        elif each.state == EmailState.QUEUED:
            yield each


def _requested(request: StoredRequest) -> Step:
    by = f"By {request.requester_name}, {request.requester_company}."
    if request.status == Status.REJECTED:
        return Step(
            title="Requested, and rejected by our checks",
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
        # The added users get the same email at the same time, so they share one step.
        alone = None if email.kind == EmailKind.ACCESS_GRANTED else (email.at, email.recipient)
        return email.kind, email.state, email.answer, alone

    for _, alike in groupby(emails, group):
        yield _email_step(list(alike))


def _email_step(alike: list[EmailStatus]) -> Step:
    first = alike[0]
    words, tone, lines = _DELIVERY[first.state]
    return Step(
        title=f"{EMAIL_LABELS[first.kind]} {words}",
        tone=tone,
        at=first.at,
        lines=("To " + ", ".join(email.recipient for email in alike), *lines),
        written=first.answer,
    )


def _untried_email(email: EmailStatus) -> Step:
    return Step(
        title=f"{EMAIL_LABELS[email.kind]} on its way",
        tone=Tone.WAITING,
        lines=(f"To {email.recipient}. Our mail server has not accepted it yet.",),
    )


def _decision(request: StoredRequest, at: datetime) -> Step:
    by = decided_by(request)
    title, tone, line = {
        Status.ACTIVE: ("Accepted: the account is active", Tone.GOOD, f"By {by}."),
        Status.DECLINED: ("Declined", Tone.BAD, f"By {by}. No account was opened."),
        Status.WITHDRAWN: ("Withdrawn", Tone.DONE, f"By {by}. No account was opened."),
        Status.LAPSED: ("Lapsed", Tone.BAD, "Nobody answered in time. No account was opened."),
        Status.UNDELIVERABLE: (
            "Ended as undeliverable",
            Tone.BAD,
            f"The activation email did not reach {request.customer_email}.",
        ),
    }[request.status]
    return Step(title=title, tone=tone, at=at, lines=(line,), written=request.reason)


def _next(request: StoredRequest, live: RequestStatus | None) -> Iterator[Step]:
    answer = request.answer
    if not request.status.is_final and answer:
        what = "acceptance" if answer == "accepted" else "answer"
        line = f"We have the customer's {what}. It takes effect in a moment."
        yield Step(title="Answered", tone=Tone.WAITING, lines=(line,))
    elif not request.status.is_final and live and live.decided_at:
        line = "A decision was made. It takes effect in a moment."
        yield Step(title="Decided", tone=Tone.WAITING, lines=(line,))
    elif live and live.next_step:
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(live.next_step,))
    elif not request.status.is_final:
        line = f"Waits for the customer's answer until {utc(request.deadline)}."
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(line,))
