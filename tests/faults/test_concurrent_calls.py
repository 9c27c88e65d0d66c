"""Many calls for the same request or the same domain at once."""

import asyncio
from collections import Counter
from collections.abc import Awaitable
from random import Random
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.actions import Withdrawal
from smart_accounts.contract.messages import Status
from smart_accounts.errors import AlreadyOpen, Rejected
from smart_accounts.temporal.records import Started
from tests.faults.conftest import RequestFor
from tests.support.mail_server import LinkIn
from tests.support.service import Service
from tests.support.store import Query


async def test_fifty_acceptances_at_once(
    service: Service,
    new_request: dict[str, Any],
    link_in: LinkIn,
    query_service: Query,
    rng: Random,
) -> None:
    await service.start_worker()
    address = await service.start_web()
    started = await service.start(new_request)
    link = link_in(await service.mail.wait_for("activation"))
    await service.wait_for(started, Status.PENDING, sent=2)
    service.mail.hold_replies = True  # keeps the request open for the signals after the first
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:

        async def accept(number: int) -> int:
            await asyncio.sleep(rng.uniform(0, 0.2))
            # From one address each, because the rate limit would reject 50 from one address.
            headers = {"X-Forwarded-For": f"203.0.113.{number}"}
            while True:
                response = await http.post(link, data={"agree": "yes"}, headers=headers)
                if response.status_code != 503:  # a busy machine responds so, with Retry-After
                    return response.status_code
                await asyncio.sleep(0.5)

        codes = await asyncio.gather(*map(accept, range(50)))
    assert set(codes) <= {200, 303}
    # After the first acceptance the page sends no more signals, but a Temporal client can.
    requests = service.requests()
    await asyncio.gather(*(requests.accept(started.workflow_id) for _ in range(10)))
    await requests.decline(started.workflow_id)
    # At least one from the page, ten from the client, and the decline. The history shows them after
    # the task that tries the emails.
    async with asyncio.timeout(40):
        while await count_signals(service, started) < 12:
            await asyncio.sleep(0.1)
    service.mail.hold_replies = False
    assert (await service.handle(started).result())["status"] == Status.ACTIVE

    status = await service.requests().status(started.workflow_id)
    (account,) = await query_service("SELECT state, activated_at FROM accounts")
    assert account["state"] == "active"
    assert account["activated_at"] == f"{status.decided_at:%Y-%m-%d %H:%M:%S.%f}"
    assert (status.status, status.decided_by) == (Status.ACTIVE, new_request["customer_email"])
    assert len(await query_service("SELECT * FROM account_users")) == 2
    assert Counter(service.mail.kinds()) == dict.fromkeys(
        ("activation", "request-received", "activated", "welcome", "access-granted"), 1
    )


async def count_signals(service: Service, started: Started) -> int:
    history = await service.handle(started).fetch_history()
    kinds = [event.event_type for event in history.events]
    return kinds.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)


async def test_twenty_starts_at_once(
    service: Service, new_request: dict[str, Any], query_service: Query
) -> None:
    await service.start_worker()
    results = await asyncio.gather(
        *(service.start(new_request) for _ in range(20)), return_exceptions=True
    )
    # If a busy machine did not respond in time, the test's client asks which request is open.
    found = [each for each in results if isinstance(each, Started)]
    counts = Counter(map(type, results))
    assert counts[Started] <= 1
    assert len(found) + counts[AlreadyOpen] == 20
    assert len({each.request_id for each in found}) == 1
    started = found[0]
    await service.wait_for(started, Status.PENDING, sent=2)
    assert await query_service("SELECT id FROM requests") == [{"id": started.request_id}]


@pytest.fixture
async def pending(service: Service, request_for: RequestFor) -> list[Started]:
    """Ten pending requests whose activation email may be sent again after about 4 seconds."""
    await service.start_worker()
    requests = [
        request_for(f"pending-{number}") | {"acceptance_window": "PT400S"} for number in range(10)
    ]
    started = [await service.start(request) for request in requests]
    for each in started:
        await service.wait_for(each, Status.PENDING, sent=2)
    await asyncio.sleep(4)  # the pause between two activation emails
    return started


async def race(rng: Random, *calls: Awaitable[Any]) -> list[Any]:
    """Make the calls at nearly the same time. Return their results and errors."""

    async def after(seconds: float, call: Awaitable[Any]) -> Any:
        await asyncio.sleep(seconds)
        return await call

    return await asyncio.gather(
        *(after(rng.uniform(0, 0.01), call) for call in calls), return_exceptions=True
    )


async def test_acceptance_and_withdrawal_at_once(
    service: Service, pending: list[Started], query_service: Query, rng: Random
) -> None:
    requests = service.requests()
    for started in pending:
        accepted, withdrawn = await race(
            rng,
            requests.accept(started.workflow_id),
            requests.withdraw(started.workflow_id, Withdrawal()),
        )
        end = (await service.handle(started).result())["status"]
        if isinstance(withdrawn, Rejected):
            assert (end, accepted) == (Status.ACTIVE, None)
        else:
            assert (end, withdrawn.status) == (Status.WITHDRAWN, Status.WITHDRAWN)
        query = f"SELECT status FROM requests WHERE id = '{started.request_id}'"
        (row,) = await query_service(query)
        assert row["status"] == end
        domain = started.workflow_id.removeprefix("smart-account-")
        closing = service.mail.kinds(f"ada@{domain}")[1:]
        assert closing == ["welcome" if end == Status.ACTIVE else "withdrawn"]


async def test_resend_and_acceptance_at_once(
    service: Service, pending: list[Started], rng: Random
) -> None:
    requests = service.requests()
    for started in pending:
        resent, accepted = await race(
            rng, requests.resend(started.workflow_id), requests.accept(started.workflow_id)
        )
        assert accepted is None
        assert (await service.handle(started).result())["status"] == Status.ACTIVE
        domain = started.workflow_id.removeprefix("smart-account-")
        kinds = Counter(service.mail.kinds(f"ada@{domain}"))
        assert kinds["welcome"] == 1
        assert kinds["activation"] in ((1,) if isinstance(resent, Rejected) else (1, 2))
