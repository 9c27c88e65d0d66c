"""The timeline of a request: what happened, what is in progress, and what comes next."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.contract.steps import Addressee, Decision
from smart_accounts.mail.refusals import NOT_ACCEPTED
from smart_accounts.text import utc
from smart_accounts.web.requests.timeline import Snapshot, Step, timeline, unsent
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.read_model import status_in

NOW = datetime.now(UTC)
AT = NOW - timedelta(days=3)
STATED = ", as stated by the client."


def email(state: EmailState, recipient: str = "ada@acme.example", **changes: Any) -> EmailStatus:
    return EmailStatus.model_validate(
        {"kind": EmailKind.ACTIVATION, "recipient": recipient, "state": state, "at": NOW} | changes
    )


async def steps_of(
    partner_site: PartnerSite, run: str, live: RequestStatus | None = None
) -> list[Step]:
    snapshot = await Snapshot.load(partner_site.store, run)
    assert snapshot
    return timeline(snapshot, live)


async def live_status(partner_site: PartnerSite, run: str, **changes: Any) -> RequestStatus:
    stored = await status_in(partner_site.store, run)
    return RequestStatus.model_validate(stored.model_dump() | changes)


async def test_new_request_waits_for_the_customer(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    first, last = await steps_of(partner_site, run)
    assert (first.title, first.at) == ("Requested", AT)
    assert first.lines[0] == "By Pat Lee, Partner Ltd."
    deadline = utc(AT + timedelta(days=90))
    assert last.lines == (f"Waits for the customer's answer until {deadline}.",)


async def test_live_status_adds_queued_emails_and_the_next_step(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    await partner_site.record_email(run, EmailKind.ACTIVATION, at=AT)
    live = await live_status(
        partner_site,
        run,
        emails=(email(EmailState.SENT), email(EmailState.QUEUED)),
        next_step="Next reminder then.",
    )
    titles = [(step.title, step.tone.value) for step in await steps_of(partner_site, run, live)]
    assert titles == [
        ("Requested", "done"),
        ("Activation email sent", "done"),
        ("Activation email on its way", "waiting"),
        ("What comes next", "next"),
    ]
    assert (await steps_of(partner_site, run, live))[-1].lines == ("Next reminder then.",)


def test_email_with_a_stored_result_is_not_on_its_way() -> None:
    """The store knows the result of an email a moment before the workflow."""
    sent, queued = email(EmailState.SENT), email(EmailState.QUEUED)
    assert list(unsent([sent], [queued])) == []
    assert list(unsent([queued], [queued])) == []
    assert list(unsent([sent, sent], [sent, queued])) == []
    assert list(unsent([sent], [sent, queued])) == [queued]
    assert list(unsent([sent], [email(EmailState.QUEUED, "eve@acme.example")])) == [
        email(EmailState.QUEUED, "eve@acme.example")
    ]


@pytest.mark.parametrize(
    ("state", "reply", "title", "tone"),
    [
        (EmailState.SENT, None, "Activation email sent", "done"),
        (EmailState.QUEUED, "451 later", "Activation email not accepted yet", "waiting"),
        (EmailState.FAILED, "550 no such user", "Activation email refused", "bad"),
        (EmailState.BOUNCED, "552 full", "Activation email bounced", "bad"),
        (EmailState.QUEUED, "554 5.7.1 no relay", "Activation email delayed", "waiting"),
        (EmailState.SENT, "554 5.7.1 no relay", "Activation email returned", "bad"),
        (
            EmailState.FAILED,
            "Refused for 5 days: 554 5.7.1 no relay",
            "Activation email not delivered",
            "bad",
        ),
    ],
)
async def test_email_shows_its_state(
    partner_site: PartnerSite, state: EmailState, reply: str | None, title: str, tone: str
) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    await partner_site.record_email(run, EmailKind.ACTIVATION, state, reply=reply)
    step = (await steps_of(partner_site, run))[1]
    assert (step.title, step.tone, step.quote) == (title, tone, reply)
    assert step.lines[0] == "To ada@acme.example"


async def test_outage_of_our_mail_server_is_a_delay(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    state = EmailState.QUEUED
    await partner_site.record_email(run, EmailKind.ACTIVATION, state, reply=NOT_ACCEPTED)
    step = (await steps_of(partner_site, run))[1]
    assert step.title == "Activation email delayed"
    assert "Sending is delayed. The address is not the reason. We keep trying." in step.lines
    assert step.quote is None


async def test_emails_about_access_are_one_step(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    for number, recipient in enumerate(("bo@acme.example", "cy@acme.example"), 1):
        await partner_site.record_email(
            run,
            EmailKind.ACCESS_GRANTED,
            to=Addressee.ADDED_USER,
            number=number,
            recipient=recipient,
        )
    steps = await steps_of(partner_site, run)
    assert [step.lines for step in steps if "access" in step.title] == [
        ("To bo@acme.example, cy@acme.example",)
    ]


@pytest.mark.parametrize(
    ("decision", "title", "line"),
    [
        (
            {"status": "active", "by": "ada@acme.example"},
            "Accepted",
            f"By ada@acme.example{STATED}",
        ),
        ({"status": "active", "by": "customer"}, "Accepted", f"By ada@acme.example{STATED}"),
        ({"status": "declined", "by": "customer", "reason": "No."}, "Declined", "By ada@"),
        (
            {"status": "withdrawn", "by": "requester"},
            "Withdrawn",
            f"By Pat Lee, Partner Ltd{STATED}",
        ),
        ({"status": "withdrawn", "by": "operator"}, "Withdrawn", f"By an operator{STATED}"),
        ({"status": "lapsed"}, "Lapsed", "The customer did not answer in time."),
        ({"status": "undeliverable", "reason": "550"}, "Ended as", "did not reach ada@acme"),
    ],
)
async def test_end_shows_who_decided_and_why(
    partner_site: PartnerSite, decision: dict[str, Any], title: str, line: str
) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    await partner_site.record_decision(run, Decision(at=NOW, **decision))
    step = (await steps_of(partner_site, run))[-1]
    assert step.title.startswith(title)
    assert line in step.lines[0]
    assert (step.at, step.quote) == (NOW, decision.get("reason"))


async def test_rejected_request_shows_the_reason(partner_site: PartnerSite) -> None:
    active = await partner_site.add_request(pat_request())
    await partner_site.record_decision(active, Decision(status=Status.ACTIVE, at=NOW))
    run = await partner_site.add_request(pat_request(), at=NOW)
    [step] = await steps_of(partner_site, run)
    assert step.title == "Requested and rejected by our checks"
    assert "already has an active Smart Account" in step.lines[1]


async def test_answer_is_shown_before_its_effect(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    live = await live_status(partner_site, run, decided_at=NOW)
    assert (await steps_of(partner_site, run, live))[-1].title == "Decided"
    await partner_site.store.requests.note_signalled(run, 1, "accepted")
    assert "acceptance" in (await steps_of(partner_site, run))[-1].lines[0]


async def test_email_that_will_never_be_sent_is_not_shown(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    for number in (1, 2):
        await partner_site.record_email(
            run, EmailKind.REMINDER, EmailState.QUEUED, number=number, at=AT, reply="451 later"
        )

    async def emails_shown() -> int:
        request = await partner_site.store.requests.find(run)
        assert request
        return len(await partner_site.store.emails.statuses(request))

    assert await emails_shown() == 1  # the newer reminder replaces the older one
    await partner_site.record_decision(run, Decision(status=Status.ACTIVE, at=AT))
    assert await emails_shown() == 0
