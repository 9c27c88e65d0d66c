"""The event stream that keeps the page of a request up to date."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime

import httpx
import pytest

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import Unavailable
from smart_accounts.web.requests import events
from smart_accounts.web.requests.timeline import Snapshot
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request
from tests.support.partners import PAT

NOW = datetime.now(UTC)


@pytest.fixture
def short_poll_interval(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(events, "POLL_SECONDS", 0.05)


async def version(partner_site: PartnerSite, run: str) -> str:
    snapshot = await Snapshot.load(partner_site.store, run)
    assert snapshot
    return snapshot.version


async def always() -> bool:
    return True


async def collect(stream: AsyncIterator[str]) -> str:
    async with asyncio.timeout(30):
        return "".join([each async for each in stream])


async def test_each_change_sends_one_event(
    partner_site: PartnerSite, short_poll_interval: None
) -> None:
    run = await partner_site.add_request(pat_request())
    steps: list[Callable[[], Awaitable[None]]] = [
        lambda: partner_site.record_email(
            run, EmailKind.ACTIVATION, EmailState.QUEUED, reply="451 later"
        ),
        lambda: partner_site.record_email(run, EmailKind.ACTIVATION),
        lambda: partner_site.store.requests.note_signalled(run, 1, "accepted"),
        lambda: partner_site.record_decision(run, Decision(status=Status.ACTIVE, at=NOW)),
    ]
    for step in steps:
        seen = await version(partner_site, run)
        stream = events.changes(
            partner_site.store, run, seen, partner_site.services.closing, always
        )
        listening = asyncio.create_task(collect(stream))
        await asyncio.sleep(0.15)
        assert not listening.done()
        await step()
        assert (await listening).endswith(
            f"event: changed\ndata: {await version(partner_site, run)}\n\n"
        )


async def test_outdated_page_gets_an_event_immediately(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    response = await partner_site.http.get(
        f"/requests/smart-account-acme.example/events?run={run}&seen=x"
    )
    assert response.headers["content-type"].startswith("text/event-stream")
    assert response.headers["cache-control"] == "no-store"
    assert "event: changed" in response.text


async def test_stream_ends_after_its_maximum_time_and_with_the_server(
    partner_site: PartnerSite, short_poll_interval: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = await partner_site.add_request(pat_request())
    closing = asyncio.Event()

    def listen() -> asyncio.Task[str]:
        seen = asyncio.create_task(version(partner_site, run))

        async def listening() -> str:
            return await collect(
                events.changes(partner_site.store, run, await seen, closing, always)
            )

        return asyncio.create_task(listening())

    first = listen()
    await asyncio.sleep(0.2)
    assert not first.done()
    closing.set()
    assert "changed" not in await first
    closing.clear()
    monkeypatch.setattr(events, "STREAM_SECONDS", 0.2)
    assert "changed" not in await listen()


async def test_stream_ends_without_an_error_when_the_database_is_down(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_unavailable(_: str) -> None:
        raise Unavailable("no")

    run = await partner_site.add_request(pat_request())
    monkeypatch.setattr(partner_site.store.requests, "find", raise_unavailable)
    stream = events.changes(partner_site.store, run, "", asyncio.Event(), always)
    assert await collect(stream) == "retry: 2000\n\n"


async def test_stream_ends_with_its_session(
    partner_site: PartnerSite, short_poll_interval: None
) -> None:
    """The session may be ended in another process, so only the store knows."""
    run = await partner_site.add_request(pat_request())
    url = f"{ACME_PAGE}/events?run={run}&seen={await version(partner_site, run)}"
    listening = asyncio.create_task(partner_site.http.get(url))
    await wait_for_streams(partner_site, 1)
    await asyncio.sleep(0.15)
    assert not listening.done()
    assert await partner_site.store.sessions.end_of_person(PAT) == 1
    async with asyncio.timeout(20):
        assert "changed" not in (await listening).text
    script = {"Accept": "text/event-stream"}
    assert (await partner_site.http.get(url, headers=script)).status_code == 401


async def wait_for_streams(partner_site: PartnerSite, number: int) -> None:
    """Wait until exactly so many event streams are open."""
    async with asyncio.timeout(20):
        while partner_site.services.event_streams.total() != number:
            await asyncio.sleep(0.01)


async def test_number_of_streams_is_limited(
    partner_site: PartnerSite, short_poll_interval: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(events, "STREAMS_PER_SESSION", 2)
    monkeypatch.setattr(events, "STREAMS_PER_PROCESS", 3)
    run = await partner_site.add_request(pat_request())
    url = f"{ACME_PAGE}/events?run={run}&seen={await version(partner_site, run)}"

    async def open_streams(number: int) -> list[asyncio.Task[httpx.Response]]:
        return [asyncio.create_task(partner_site.http.get(url)) for _ in range(number)]

    streams = await open_streams(2)
    await wait_for_streams(partner_site, 2)
    assert (await partner_site.http.get(url)).status_code == 429
    await partner_site.sign_in(PAT)
    streams += await open_streams(1)
    await wait_for_streams(partner_site, 3)
    assert (await partner_site.http.get(url)).status_code == 429
    # A client that goes away makes room.
    streams.pop().cancel()
    await wait_for_streams(partner_site, 2)
    streams += await open_streams(1)
    await wait_for_streams(partner_site, 3)
    partner_site.services.closing.set()
    assert [(await stream).status_code for stream in streams] == [200, 200, 200]
    assert not partner_site.services.event_streams
