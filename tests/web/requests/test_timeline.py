"""The time line: what happened, what is under way, what comes next."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import (
    Addressee,
    EmailKind,
    EmailState,
    EmailStatus,
    RequestStatus,
    Status,
)
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Unavailable
from smart_accounts.text import utc
from smart_accounts.web.requests import events
from smart_accounts.web.requests.timeline import Snapshot, Step, timeline, untried
from tests.support.read_model import status_in

NOW = datetime.now(UTC)
AT = NOW - timedelta(days=3)


def mail(state: EmailState, to: str = "ada@acme.example", **changes: Any) -> EmailStatus:
    return EmailStatus.model_validate(
        {"kind": EmailKind.ACTIVATION, "recipient": to, "state": state, "at": NOW} | changes
    )


async def told(desk: Any, run: str, live: RequestStatus | None = None) -> list[Step]:
    known = await Snapshot.load(desk.store, run)
    assert known
    return timeline(known, live)


async def live_status(desk: Any, run: str, **changes: Any) -> RequestStatus:
    stored = await status_in(desk.store, run)
    return RequestStatus.model_validate(stored.model_dump() | changes)


async def test_a_new_request_waits_for_its_customer(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted(), at=AT)
    first, then = await told(desk, run)
    assert (first.title, first.at) == ("Requested", AT)
    assert first.lines[0] == "By Pat Lee, Partner Ltd."
    deadline = utc(AT + timedelta(days=90))
    assert then.lines == (f"Waits for the customer's answer until {deadline}.",)


async def test_what_only_the_workflow_knows_comes_last(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted(), at=AT)
    await desk.mailed(run, EmailKind.ACTIVATION, at=AT)
    live = await live_status(
        desk,
        run,
        emails=(mail(EmailState.SENT), mail(EmailState.QUEUED)),
        next_step="Next reminder then.",
    )
    titles = [(step.title, step.tone.value) for step in await told(desk, run, live)]
    assert titles == [
        ("Requested", "done"),
        ("Activation email sent", "done"),
        ("Activation email on its way", "waiting"),
        ("What comes next", "next"),
    ]
    assert (await told(desk, run, live))[-1].lines == ("Next reminder then.",)


def test_an_email_that_the_store_has_is_not_on_its_way() -> None:
    """The workflow hears a moment later than the store how an email went."""
    sent, queued = mail(EmailState.SENT), mail(EmailState.QUEUED)
    assert list(untried([sent], [queued])) == []
    assert list(untried([queued], [queued])) == []
    assert list(untried([sent, sent], [sent, queued])) == []
    assert list(untried([sent], [sent, queued])) == [queued]
    assert list(untried([sent], [mail(EmailState.QUEUED, "eve@acme.example")])) == [
        mail(EmailState.QUEUED, "eve@acme.example")
    ]


@pytest.mark.parametrize(
    ("state", "answer", "title", "tone"),
    [
        (EmailState.SENT, None, "Activation email sent", "done"),
        (EmailState.QUEUED, "451 later", "Activation email not accepted yet", "waiting"),
        (EmailState.FAILED, "550 no such user", "Activation email refused", "bad"),
        (EmailState.BOUNCED, "552 full", "Activation email came back", "bad"),
    ],
)
async def test_each_email_says_how_far_it_is(
    desk: Any, wanted: Any, state: EmailState, answer: str | None, title: str, tone: str
) -> None:
    run = await desk.open(wanted(), at=AT)
    await desk.mailed(run, EmailKind.ACTIVATION, state, answer=answer)
    step = (await told(desk, run))[1]
    assert (step.title, step.tone, step.written) == (title, tone, answer)
    assert step.lines[0] == "To ada@acme.example"


async def test_emails_about_the_access_stand_together(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted(), at=AT)
    for number, who in enumerate(("bo@acme.example", "cy@acme.example"), 1):
        to = {"to": Addressee.ADDED_USER, "number": number, "recipient": who}
        await desk.mailed(run, EmailKind.ACCESS_GRANTED, **to)
    steps = await told(desk, run)
    assert [step.lines for step in steps if "access" in step.title] == [
        ("To bo@acme.example, cy@acme.example",)
    ]


@pytest.mark.parametrize(
    ("decision", "title", "line"),
    [
        ({"status": "active", "by": "ada@acme.example"}, "Accepted", "By ada@acme.example."),
        ({"status": "active", "by": "customer"}, "Accepted", "By ada@acme.example."),
        ({"status": "declined", "by": "customer", "reason": "No."}, "Declined", "By ada@"),
        ({"status": "withdrawn", "by": "requester"}, "Withdrawn", "By Pat Lee, Partner Ltd."),
        ({"status": "withdrawn", "by": "operator"}, "Withdrawn", "By our operators."),
        ({"status": "lapsed"}, "Lapsed", "Nobody answered in time."),
        ({"status": "undeliverable", "reason": "550"}, "Ended as", "did not reach ada@acme"),
    ],
)
async def test_the_end_says_who_and_why(
    desk: Any, wanted: Any, decision: dict[str, Any], title: str, line: str
) -> None:
    run = await desk.open(wanted(), at=AT)
    await desk.decide(run, Decision(at=NOW, **decision))
    step = (await told(desk, run))[-1]
    assert step.title.startswith(title)
    assert line in step.lines[0]
    assert (step.at, step.written) == (NOW, decision.get("reason"))


async def test_a_refused_request_says_why(desk: Any, wanted: Any) -> None:
    await desk.decide(await desk.open(wanted()), Decision(status=Status.ACTIVE, at=NOW))
    run = await desk.open(wanted(), at=NOW)
    [step] = await told(desk, run)
    assert step.title == "Requested, and rejected by our checks"
    assert "already has an active Smart Account" in step.lines[1]


async def test_an_answer_on_its_way_is_told(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted())
    live = await live_status(desk, run, decided_at=NOW)
    assert (await told(desk, run, live))[-1].title == "Decided"
    await desk.store.requests.note_signalled(run, "accepted")
    assert "acceptance" in (await told(desk, run))[-1].lines[0]


# ---- live ------------------------------------------------------------------------------------


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)


async def version(desk: Any, run: str) -> str:
    known = await Snapshot.load(desk.store, run)
    assert known
    return known.version


async def collect(stream: AsyncIterator[str]) -> str:
    async with asyncio.timeout(30):
        return "".join([each async for each in stream])


async def test_every_change_is_one_event(desk: Any, wanted: Any, quick: None) -> None:
    run = await desk.open(wanted())
    changes: list[Callable[[], Awaitable[None]]] = [
        lambda: desk.mailed(run, EmailKind.ACTIVATION, EmailState.QUEUED, answer="451 later"),
        lambda: desk.mailed(run, EmailKind.ACTIVATION),
        lambda: desk.store.requests.note_signalled(run, "accepted"),
        lambda: desk.decide(run, Decision(status=Status.ACTIVE, at=NOW)),
    ]
    for change in changes:
        seen = await version(desk, run)
        stream = events.changes(desk.store, run, seen, desk.app.state.services.closing)
        listening = asyncio.create_task(collect(stream))
        await asyncio.sleep(0.15)
        assert not listening.done()
        await change()
        assert (await listening).endswith(f"event: changed\ndata: {await version(desk, run)}\n\n")


async def test_a_page_that_is_behind_is_told_at_once(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted())
    answer = await desk.http.get(f"/requests/smart-account-acme.example/events?run={run}&seen=x")
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.headers["cache-control"] == "no-store"
    assert "event: changed" in answer.text


async def test_a_stream_ends_by_itself_and_with_the_service(
    desk: Any, wanted: Any, quick: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await desk.open(wanted())
    closing = asyncio.Event()

    def listen() -> asyncio.Task[str]:
        seen = asyncio.create_task(version(desk, run))

        async def listening() -> str:
            return await collect(events.changes(desk.store, run, await seen, closing))

        return asyncio.create_task(listening())

    first = listen()
    await asyncio.sleep(0.2)
    assert not first.done()
    closing.set()
    assert "changed" not in await first
    closing.clear()
    monkeypatch.setattr(events, "STREAM_SECONDS", 0.2)
    assert "changed" not in await listen()


async def test_a_stream_ends_quietly_when_the_database_is_away(
    desk: Any, wanted: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fails(_: str) -> None:
        raise Unavailable("no")

    run = await desk.open(wanted())
    monkeypatch.setattr(desk.store.requests, "find", fails)
    stream = events.changes(desk.store, run, "", asyncio.Event())
    assert await collect(stream) == "retry: 2000\n\n"


async def test_an_email_that_will_never_leave_is_not_shown(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted(), at=AT)
    for number in (1, 2):
        await desk.mailed(run, EmailKind.REMINDER, EmailState.QUEUED, number=number, at=AT)

    async def shown() -> int:
        return len(await desk.store.emails.statuses(await desk.store.requests.find(run)))

    assert await shown() == 1  # the newer one took the place of the other
    await desk.decide(run, Decision(status=Status.ACTIVE, at=AT))
    assert await shown() == 0
