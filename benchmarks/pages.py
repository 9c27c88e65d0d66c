"""``make bench``: measure the response times of the pages with 10,000 requests in the store.

The local stack (Temporal, worker, web, mailbox) and this client share the machine. The output has
one line per page: the median, the 95th percentile and the longest time in milliseconds, and the
number of errors.
"""

import asyncio
import os
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from uuid import uuid4

import httpx
from fastapi import Request, Response

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    Requester,
    SmartAccountRequest,
)
from smart_accounts.contract.steps import Addressee, Checked, Email, EmailOutcome, OpenRequest
from smart_accounts.local.configuration import StackConfiguration, configure, free_ports
from smart_accounts.local.stack import supervise
from smart_accounts.settings import PREFIX
from smart_accounts.store.limits import Limits
from smart_accounts.store.migrate import migrate
from smart_accounts.store.sending import SendAttempt
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from smart_accounts.web.auth.cookies import Cookies
from smart_accounts.web.auth.session import Sessions

REQUESTS = 10_000
PARTNERS = 10
LINKS = 500
RATE = 50  # requests per second
SECONDS = 20
WARM_UP = 20

NO_LIMITS = Limits(
    open_per_customer=REQUESTS,
    open_per_requester=REQUESTS,
    starts_per_requester_per_hour=REQUESTS,
    emails_per_mailbox_per_day=REQUESTS,
    emails_per_requester_per_day=REQUESTS,
)


async def main() -> None:
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", PREFIX))}
    ports = {name: str(port) for name, port in free_ports().items()}
    with tempfile.TemporaryDirectory() as home:
        stack = configure(Path(home), inherited | ports)
        print(f"Storing {REQUESTS} requests …", flush=True)
        links = await fill(stack)
        await supervise(stack, lambda: measure(stack, links))


async def fill(stack: StackConfiguration) -> list[str]:
    """Store the requests. Return the link tokens of the first ones."""
    url, now = stack.environment[f"{PREFIX}DATABASE_URL"], datetime.now(UTC)
    tokens, links = LinkTokens([stack.environment[f"{PREFIX}SECRET_KEYS"]]), []
    outcomes: list[asyncio.Task[None]] = []
    await migrate(url)
    async with AccountStore.open(url) as store:
        for number in range(REQUESTS):
            id_, requested_at = str(uuid4()), now - timedelta(minutes=number)
            request = request_for(number)
            opening = OpenRequest(
                request_id=id_,
                request=request,
                requested_at=requested_at,
                deadline=requested_at + request.acceptance_window,
            )
            assert await store.requests.open(opening, (), NO_LIMITS) == Checked()
            email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
            attempt = SendAttempt(
                request_id=id_,
                email=email,
                message_id=f"<{id_}>",
                tokens=tokens,
                clock=always(requested_at),
                limits=NO_LIMITS,
            )
            begun = await store.emails.begin(attempt)
            sent = EmailOutcome(state=EmailState.SENT, at=requested_at)
            outcomes.append(asyncio.create_task(store.emails.record(id_, email, sent)))
            if number < LINKS:
                assert begun.link_token
                links.append(begun.link_token)
        await asyncio.gather(*outcomes)
    return links


def always(moment: datetime) -> Callable[[], datetime]:
    """Return a clock that stands still."""
    return lambda: moment


def request_for(number: int) -> SmartAccountRequest:
    partner = f"pat-{number % PARTNERS}@partner.example"
    return SmartAccountRequest(
        account_name=f"Customer {number}",
        account_domain=f"customer-{number}.example",
        customer_email=f"ada@customer-{number}.example",
        requester=Requester(email=partner, name="Pat Lee", company="Partner Ltd"),
    )


async def measure(stack: StackConfiguration, links: list[str]) -> None:
    async with httpx.AsyncClient(base_url=stack.url("WEB_PORT"), timeout=30) as http:
        await measure_page(http, "activation page", lambda n: f"/activate/{links[n % LINKS]}", {})
        name = f"my requests, {REQUESTS // PARTNERS}"
        partner = await session(stack)
        await measure_page(http, name, lambda n: f"/requests?page={n % 5 + 1}", partner)
        operator = await session(stack, is_operator=True)
        await measure_page(http, f"all requests, {REQUESTS}", lambda _: "/requests", operator)
        await measure_page(http, "search", lambda n: f"/requests?q=CUSTOMER-{n}.ex", operator)


async def session(stack: StackConfiguration, *, is_operator: bool = False) -> dict[str, str]:
    """Begin a session and return its cookie.

    The person is a partner, who made a tenth of the requests, or an operator.
    """
    url = stack.environment[f"{PREFIX}PUBLIC_URL"]
    issuer = stack.environment[f"{PREFIX}OIDC_ISSUER"]
    partner = Partner(
        issuer=issuer,
        subject="pat",
        email="pat-1@partner.example",
        name="Pat Lee",
        company="Partner Ltd",
        is_operator=is_operator,
    )
    response = Response()
    async with AccountStore.open(stack.environment[f"{PREFIX}DATABASE_URL"]) as store:
        sessions = Sessions(Cookies(url), store.sessions, issuer)
        await sessions.begin(Request({"type": "http", "headers": []}), response, partner)
    return {"Cookie": response.headers["set-cookie"].partition(";")[0]}


async def measure_page(
    http: httpx.AsyncClient, name: str, path: Callable[[int], str], headers: dict[str, str]
) -> None:
    """Request the page ``RATE`` times per second, without waiting for earlier responses."""
    durations: list[float] = []
    errors = 0

    async def get(number: int) -> None:
        nonlocal errors
        began = time.perf_counter()
        response = await http.get(path(number), headers=headers)
        durations.append(time.perf_counter() - began)
        errors += response.status_code != 200

    for number in range(WARM_UP):
        await get(number)
    durations.clear()
    tasks = []
    start = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0, start + number / RATE - time.perf_counter()))
        tasks.append(asyncio.create_task(get(number)))
    await asyncio.gather(*tasks)
    durations.sort()
    median, p95, longest = (
        durations[int((len(durations) - 1) * part)] * 1000 for part in (0.5, 0.95, 1)
    )
    print(
        f"{name:20} {RATE}/s  median {median:5.1f} ms  p95 {p95:5.1f} ms"
        f"  longest {longest:5.0f} ms  errors {errors}",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
