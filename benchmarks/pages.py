"""How soon the pages answer with 10,000 requests in the store: run by ``make bench``.

The local stack (Temporal, worker, web, mailbox) and the browser's part share this machine. Prints
a line a page: the median, the 95th percentile and the longest answer in milliseconds, and errors.
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
from fastapi import Response

from smart_accounts.contract.messages import (
    Addressee,
    Email,
    EmailKind,
    EmailState,
    Requester,
    SmartAccountRequest,
)
from smart_accounts.contract.steps import EmailOutcome, OpenRequest
from smart_accounts.local.configuration import Plan, free_ports, make_plan
from smart_accounts.local.stack import supervise
from smart_accounts.settings import PREFIX
from smart_accounts.store.database import migrate
from smart_accounts.store.records import Limits
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens, token_hash
from smart_accounts.web.auth.cookies import SignedCookies
from smart_accounts.web.auth.session import Partner, Sessions

REQUESTS = 10_000
PARTNERS = 10
LINKS = 500
RATE = 50  # a second
SECONDS = 20
WARM_UP = 20

NO_CEILINGS = Limits(open_per_customer=REQUESTS, starts_per_requester_per_hour=REQUESTS)


async def main() -> None:
    bare = {k: v for k, v in os.environ.items() if not k.startswith(("TEMPORAL_", PREFIX))}
    ports = {name: str(port) for name, port in free_ports().items()}
    with tempfile.TemporaryDirectory() as home:
        plan = make_plan(Path(home), bare | ports)
        print(f"Storing {REQUESTS} requests …", flush=True)
        links = await fill(plan)
        await supervise(plan, lambda: measure(plan, links))


async def fill(plan: Plan) -> list[str]:
    """Store the requests; answers the tokens of some."""
    url, now = plan.environment[f"{PREFIX}DATABASE_URL"], datetime.now(UTC)
    tokens, links = LinkTokens([plan.environment[f"{PREFIX}SECRET_KEYS"]]), []
    await migrate(url)
    async with AccountStore.open(url) as store:
        for number in range(REQUESTS):
            id_, asked_at = str(uuid4()), now - timedelta(minutes=number)
            request = wish(number)
            opening = OpenRequest(
                request_id=id_,
                request=request,
                requested_at=asked_at,
                deadline=asked_at + request.acceptance_window,
            )
            assert await store.open_request(opening, (), NO_CEILINGS) is None
            await store.emails.record(
                id_,
                Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER),
                request.customer_email,
                f"<{id_}@accounts.example>",
                id_[:32],
                EmailOutcome(state=EmailState.SENT, at=asked_at),
            )
            if number < LINKS:
                links.append(tokens.candidates(id_, 1)[0])
                await store.save_link(id_, 1, token_hash(links[-1]))
    return links


def wish(number: int) -> SmartAccountRequest:
    partner = f"pat-{number % PARTNERS}@partner.example"
    return SmartAccountRequest(
        account_name=f"Customer {number}",
        account_domain=f"customer-{number}.example",
        customer_email=f"ada@customer-{number}.example",
        requester=Requester(email=partner, name="Pat Lee", company="Partner Ltd"),
    )


async def measure(plan: Plan, links: list[str]) -> None:
    async with httpx.AsyncClient(base_url=plan.url("WEB_PORT"), timeout=30) as http:
        await page(http, "activation page", lambda n: f"/activate/{links[n % LINKS]}", {})
        mine = f"my requests, {REQUESTS // PARTNERS}"
        await page(http, mine, lambda n: f"/requests?page={n % 5 + 1}", session(plan))
        everybodys = session(plan, is_operator=True)
        await page(http, f"all requests, {REQUESTS}", lambda _: "/requests", everybodys)


def session(plan: Plan, *, is_operator: bool = False) -> dict[str, str]:
    """The cookie of a partner with a tenth of the requests, or of an operator."""
    url = plan.environment[f"{PREFIX}PUBLIC_URL"]
    keys, issuer = (plan.environment[f"{PREFIX}{name}"] for name in ("SECRET_KEYS", "OIDC_ISSUER"))
    partner = Partner(
        subject="pat",
        email="pat-1@partner.example",
        name="Pat Lee",
        company="Partner Ltd",
        is_operator=is_operator,
    )
    answer = Response()
    Sessions(SignedCookies([keys], url, issuer), url).begin(answer, partner)
    return {"Cookie": answer.headers["set-cookie"].partition(";")[0]}


async def page(
    http: httpx.AsyncClient, name: str, path: Callable[[int], str], headers: dict[str, str]
) -> None:
    """Ask for it so many times a second, whether or not the answers before have come."""
    took: list[float] = []
    errors = 0

    async def ask(number: int) -> None:
        nonlocal errors
        began = time.perf_counter()
        answer = await http.get(path(number), headers=headers)
        took.append(time.perf_counter() - began)
        errors += answer.status_code != 200

    for number in range(WARM_UP):
        await ask(number)
    took.clear()
    asked = []
    start = time.perf_counter()
    for number in range(RATE * SECONDS):
        await asyncio.sleep(max(0, start + number / RATE - time.perf_counter()))
        asked.append(asyncio.create_task(ask(number)))
    await asyncio.gather(*asked)
    took.sort()
    median, p95, longest = (took[int((len(took) - 1) * part)] * 1000 for part in (0.5, 0.95, 1))
    print(
        f"{name:20} {RATE}/s  median {median:5.1f} ms  p95 {p95:5.1f} ms"
        f"  longest {longest:5.0f} ms  errors {errors}",
        flush=True,
    )


if __name__ == "__main__":
    asyncio.run(main())
