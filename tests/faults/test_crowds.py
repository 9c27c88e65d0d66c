"""Many at once who all want the same."""

import asyncio
from collections import Counter
from random import Random
from typing import Any

import httpx
import pytest
from temporalio.api.enums.v1 import EventType

from smart_accounts.contract.messages import Status, Withdrawal
from smart_accounts.errors import Rejected
from smart_accounts.temporal.client import Started


async def test_fifty_acceptances_at_once(
    service: Any, fresh: dict[str, Any], link_in: Any, ask_service: Any, chance: Random
) -> None:
    await service.worker()
    address = await service.web()
    started = await service.start(fresh)
    link = link_in(await service.mail.wait_for("activation"))
    await service.until(started, Status.PENDING, sent=2)
    service.mail.holds = True  # the request stays open for what comes after the first
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:

        async def accept(number: int) -> int:
            await asyncio.sleep(chance.uniform(0, 0.2))
            own = {"X-Forwarded-For": f"203.0.113.{number}"}  # together they'd be too many a minute
            while True:
                answer = await http.post(link, data={"agree": "yes"}, headers=own)
                if answer.status_code != 503:  # on a busy machine; it says to try again
                    return answer.status_code
                await asyncio.sleep(0.5)

        answers = await asyncio.gather(*map(accept, range(50)))
    assert set(answers) <= {200, 303}
    # After the first acceptance the page sends no more signals, but a Temporal client can.
    requests = service.requests()
    await asyncio.gather(*(requests.accept(started.workflow_id) for _ in range(10)))
    await requests.decline(started.workflow_id)
    history = await service.handle(started).fetch_history()
    kinds = [event.event_type for event in history.events]
    signals = kinds.count(EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED)
    assert signals >= 12, "at least one of the page's, ten of the client's, and the refusal"
    service.mail.holds = False
    assert (await service.handle(started).result())["status"] == Status.ACTIVE

    status = await service.requests().status(started.workflow_id)
    (account,) = await ask_service("SELECT state, activated_at FROM accounts")
    assert account["state"] == "active"
    assert account["activated_at"] == f"{status.decided_at:%Y-%m-%d %H:%M:%S.%f}"
    assert (status.status, status.decided_by) == (Status.ACTIVE, fresh["customer_email"])
    assert len(await ask_service("SELECT * FROM account_users")) == 2
    assert Counter(service.mail.kinds()) == dict.fromkeys(
        ("activation", "request-received", "activated", "welcome", "access-granted"), 1
    )


async def test_twenty_starts_at_once(service: Any, fresh: dict[str, Any], ask_service: Any) -> None:
    await service.worker()
    answers = await asyncio.gather(
        *(service.start(fresh) for _ in range(20)), return_exceptions=True
    )
    assert Counter(map(type, answers)) == {Started: 1, Rejected: 19}
    (started,) = (answer for answer in answers if isinstance(answer, Started))
    await service.until(started, Status.PENDING, sent=2)
    assert await ask_service("SELECT id FROM requests") == [{"id": started.request_id}]


@pytest.fixture
async def pending(service: Any, wish: Any) -> list[Started]:
    """Ten requests that can be resent almost at once."""
    await service.worker()
    wishes = [wish(f"crowd-{number}") | {"acceptance_window": "PT400S"} for number in range(10)]
    all_of_them = [await service.start(each) for each in wishes]
    for each in all_of_them:
        await service.until(each, Status.PENDING, sent=2)
    await asyncio.sleep(4)  # the cool-down
    return all_of_them


async def one_against_the_other(chance: Random, *rivals: Any) -> list[Any]:
    async def after(seconds: float, rival: Any) -> Any:
        await asyncio.sleep(seconds)
        return await rival

    both = (after(chance.uniform(0, 0.01), rival) for rival in rivals)
    return await asyncio.gather(*both, return_exceptions=True)


async def test_acceptance_against_withdrawal(
    service: Any, pending: list[Started], ask_service: Any, chance: Random
) -> None:
    requests = service.requests()
    for started in pending:
        accepted, withdrawn = await one_against_the_other(
            chance,
            requests.accept(started.workflow_id),
            requests.withdraw(started.workflow_id, Withdrawal()),
        )
        end = (await service.handle(started).result())["status"]
        if isinstance(withdrawn, Rejected):
            assert (end, accepted) == (Status.ACTIVE, None)
        else:
            assert (end, withdrawn.status) == (Status.WITHDRAWN, Status.WITHDRAWN)
        (row,) = await ask_service(f"SELECT status FROM requests WHERE id = '{started.request_id}'")
        assert row["status"] == end
        domain = started.workflow_id.removeprefix("smart-account-")
        closing = service.mail.kinds(f"ada@{domain}")[1:]
        assert closing == ["welcome" if end == Status.ACTIVE else "withdrawn"]


async def test_resend_against_acceptance(
    service: Any, pending: list[Started], chance: Random
) -> None:
    requests = service.requests()
    for started in pending:
        resent, accepted = await one_against_the_other(
            chance, requests.resend(started.workflow_id), requests.accept(started.workflow_id)
        )
        assert accepted is None
        assert (await service.handle(started).result())["status"] == Status.ACTIVE
        domain = started.workflow_id.removeprefix("smart-account-")
        kinds = Counter(service.mail.kinds(f"ada@{domain}"))
        assert kinds["welcome"] == 1
        assert kinds["activation"] in ((1,) if isinstance(resent, Rejected) else (1, 2))
