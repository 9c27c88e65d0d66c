"""One request as a time line: what happened, what is under way and what comes next.

The store is the truth, also when Temporal has forgotten the request. Only the workflow knows
which emails nobody has tried to send yet and when the next reminder is due; where no worker
answers, these are left out.
"""

import hashlib
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import groupby

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.text import utc
from smart_accounts.web.activation import answer_of
from smart_accounts.web.requests.labels import EMAIL_LABELS, decided_by

CLOSING = timedelta(hours=1)  # how long emails may still follow an end


class Tone(StrEnum):
    DONE = "done"
    GOOD = "good"
    BAD = "bad"
    WAITING = "waiting"
    NEXT = "next"


_DELIVERY = {
    EmailState.SENT: ("sent", Tone.DONE),
    EmailState.QUEUED: (
        *("not taken yet", Tone.WAITING),
        "The mail server asks us to come back later, which we do for five days.",
    ),
    EmailState.BOUNCED: ("came back", Tone.BAD, "It was sent, but could not be delivered."),
    EmailState.FAILED: ("refused", Tone.BAD, "The mail server does not take it."),
}


@dataclass(frozen=True, kw_only=True)
class Step:
    title: str
    tone: Tone
    at: datetime | None = None
    lines: tuple[str, ...] = ()
    written: str | None = None
    """Somebody's own words: the mail server's or the customer's."""


@dataclass(frozen=True, kw_only=True)
class Known:
    """What the store has of one request."""

    request: StoredRequest
    emails: tuple[EmailStatus, ...]

    @property
    def version(self) -> str:
        """Another one whenever something changed."""
        return hashlib.sha256(repr(self).encode()).hexdigest()[:16]

    def is_settled(self, now: datetime) -> bool:
        """Whether nothing more is going to happen."""
        decided = self.request.decided_at
        return self.request.status.is_final and (decided is None or now > decided + CLOSING)

    @classmethod
    async def load(cls, store: AccountStore, request_id: str) -> "Known | None":
        request = await store.find_request(request_id)
        if request is None:
            return None
        return cls(request=request, emails=await store.emails_of(request))


def story(known: Known, live: RequestStatus | None) -> list[Step]:
    """Oldest first; what has no time yet comes last."""
    request = known.request
    past = [_requested(request), *_mails(known.emails)]
    if request.decided_at and request.status != Status.REJECTED:
        past.append(_decision(request, request.decided_at))
    past.sort(key=lambda step: step.at or request.requested_at)
    waiting = [_on_its_way(each) for each in untried(known.emails, live.emails if live else ())]
    return [*past, *waiting, *_next(request, live)]


def untried(stored: Iterable[EmailStatus], live: Iterable[EmailStatus]) -> Iterator[EmailStatus]:
    """Emails that wait in the workflow and were never tried, so that the store has none of them."""
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
            title="Requested, and refused by our checks",
            tone=Tone.BAD,
            at=request.requested_at,
            lines=(by, request.reason or ""),
        )
    return Step(
        title="Requested",
        tone=Tone.DONE,
        at=request.requested_at,
        lines=(by, "Our checks let it through: the account is provisional."),
    )


def _mails(emails: Iterable[EmailStatus]) -> Iterator[Step]:
    def like(email: EmailStatus) -> tuple[object, ...]:
        # Dozens of users get access at the same time, with the same words.
        alone = None if email.kind == EmailKind.ACCESS_GRANTED else (email.at, email.recipient)
        return email.kind, email.state, email.answer, alone

    for _, group in groupby(emails, like):
        yield _mail(list(group))


def _mail(alike: list[EmailStatus]) -> Step:
    first = alike[0]
    words, tone, *lines = _DELIVERY[first.state]
    return Step(
        title=f"{EMAIL_LABELS[first.kind]} {words}",
        tone=Tone(tone),
        at=first.at,
        lines=("To " + ", ".join(email.recipient for email in alike), *lines),
        written=first.answer,
    )


def _on_its_way(email: EmailStatus) -> Step:
    return Step(
        title=f"{EMAIL_LABELS[email.kind]} on its way",
        tone=Tone.WAITING,
        lines=(f"To {email.recipient}; our mail server has not taken it yet.",),
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
    answer = answer_of(request)
    if not request.status.is_final and answer:
        said = "acceptance" if answer == "accepted" else "answer"
        line = f"We have the customer's {said}; it takes effect within moments."
        yield Step(title="Answered", tone=Tone.WAITING, lines=(line,))
    elif not request.status.is_final and live and live.decided_at:
        line = "A decision was made; it takes effect within moments."
        yield Step(title="Decided", tone=Tone.WAITING, lines=(line,))
    elif live and live.next_step:
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(live.next_step,))
    elif not request.status.is_final:
        line = f"Waits for the customer's answer until {utc(request.deadline)}."
        yield Step(title="What comes next", tone=Tone.NEXT, lines=(line,))
