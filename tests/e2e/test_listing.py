"""The list of requests on both databases: filters, search, pages and access."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Addressee,
    Decision,
    Email,
    EmailOutcome,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.store.listing import Counted, Page, RequestListing
from smart_accounts.store.migrate import migrate
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.gauges import keep_gauges
from tests.support.fake_temporal import FakeTemporal
from tests.support.ledger import add_email
from tests.support.limits import new_limits
from tests.support.metrics import RecordedMetrics

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LIMITS = new_limits(open_per_customer=100)
PAT, KIM = Identity("https://login.example", "pat"), Identity("https://login.example", "kim")
# Name, domain and owner, the oldest first.
MADE = [
    ("100% Pure", "pure.example", PAT),
    ("100 Pure", "hundred.example", PAT),
    ("snake_case", "snake.example", PAT),
    ("snakeXcase", "snake-x.example", KIM),
    ("Back\\slash", "back.example", PAT),
    ("Acme", "pure.example", PAT),  # the second request for this domain, after the first ended
]


@pytest.fixture
async def listed(
    any_database_url: str, example: dict[str, Any]
) -> AsyncIterator[tuple[AccountStore, RequestListing]]:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:
        for age, (name, domain, owner) in enumerate(MADE):
            request = example | {"account_name": name, "account_domain": domain}
            request["customer_email"] = f"Ada.{age}@firm.example"
            if age == len(MADE) - 1:
                lapsed = Decision(status=Status.LAPSED, at=NOW)
                await store.requests.close(RecordDecision(request_id="0", decision=lapsed))
            await open_request(store, age, request, owner)
        yield store, store.listing


async def open_request(
    store: AccountStore, number: int, request: dict[str, Any], owner: Identity
) -> None:
    opening = OpenRequest(
        request_id=str(number),
        request=SmartAccountRequest.model_validate(request),
        requested_at=NOW + timedelta(minutes=number),
        deadline=NOW + timedelta(days=90),
        requester_issuer=owner.issuer,
        requester_subject=owner.subject,
    )
    checked = await store.requests.open(opening, (), LIMITS)
    assert checked.refused is None


def ids(page: Page) -> str:
    return "".join(each.request.id for each in page.items)


async def test_requests_are_counted_in_metrics(
    listed: tuple[AccountStore, RequestListing], metrics: RecordedMetrics, example: dict[str, Any]
) -> None:
    store, requests = listed
    assert await requests.count_by_status() == {
        Status.LAPSED: Counted(number=1, oldest=NOW),
        Status.PENDING: Counted(number=5, oldest=NOW + timedelta(minutes=1)),
    }
    waiting = OpenRequest(
        request_id="waiting",
        request=SmartAccountRequest(**example),
        requested_at=datetime.now(UTC) - timedelta(days=2),
        deadline=NOW + timedelta(days=90),
    )
    await store.requests.open(waiting, ("It is odd.",), LIMITS)
    temporal = FakeTemporal()
    async with asyncio.timeout(10), keep_gauges(metrics.meter, temporal, store):
        found: dict[str, float] = {}
        while "smart_accounts_webhook_endpoints_overdue" not in found:
            await asyncio.sleep(0.01)
            found |= metrics.read()
    age = found.pop("smart_accounts_oldest_review_age_seconds")
    assert age == pytest.approx(2 * 86400, abs=60)
    assert {name.removeprefix("smart_accounts_"): value for name, value in found.items()} == {
        "reachable temporal": 1,
        "reachable database": 1,
        "requests in_review": 1,
        "requests pending": 5,
        "requests active": 0,
        "requests declined": 0,
        "requests lapsed": 1,
        "requests rejected": 0,
        "requests undeliverable": 0,
        "requests withdrawn": 0,
        "webhook_endpoints_overdue": 0,
    }


async def test_list(listed: tuple[AccountStore, RequestListing]) -> None:
    _, requests = listed

    async def found(owner: Identity | None = PAT, **wanted: Any) -> str:
        page = await requests.page(owner=owner, **wanted)
        assert page.total == len(page.items)
        return ids(page)

    # Everybody sees their own requests. Operators see all.
    assert await found() == "54210"
    assert await found(KIM) == "3"
    assert await found(Identity(PAT.issuer, "PAT")) == ""
    assert await found(Identity("https://other.example", PAT.subject)) == ""
    assert await found(None) == "543210"

    assert await found(status=Status.PENDING) == "5421"
    assert await found(status=Status.LAPSED) == "0"
    assert await found(status=Status.ACTIVE) == ""

    # The search looks in name, domain and customer, in any letter case. It has no wildcards.
    assert await found(search="PURE") == "510"
    assert await found(search="hundred.ex") == "1"
    assert await found(search="ada.4@FIRM") == "4"
    assert await found(search="100%") == "0"
    assert await found(search="%") == "0"
    assert await found(None, search="snake_") == "2"
    assert await found(search="_") == "2"
    assert await found(search="\\") == "4"
    assert await found(search="\\s") == "4"
    assert await found(search="'; DROP TABLE requests; --") == ""
    assert await found(search="pat@partner") == ""  # the requester is not searched
    assert await found(search="pure", status=Status.LAPSED) == "0"


# Name, domain and local part of a request, and texts that find it.
TYPED = [
    (
        "Ärzte Köln",
        "ärzte-köln.example",
        "Ada",
        ["ärzte", "ÄRZTE KÖLN", "a\u0308rzte", "Ärzte-Köln.example", "ADA@ÄRZTE", "xn--rzte-kln"],
    ),
    ("Straße 1", "street.example", "bo", ["STRASSE", "straße", "Strasse  1"]),
    (
        "İstanbul IŞIK",
        "light.example",
        "cy",
        ["istanbul", "İSTANBUL", "işik", "IŞIK", "\u0131ş\u0131k"],
    ),
    ("ΟΔΟΣ", "way.example", "di", ["οδος", "οδοσ"]),
    ("ЖУК", "beetle.example", "ed", ["жук", "Жу"]),
]


async def test_search_finds_what_a_person_types(
    any_database_url: str, example: dict[str, Any]
) -> None:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as store:

        async def found(search: str) -> str:
            return ids(await store.listing.page(owner=None, search=search))

        for number, (name, domain, local, _) in enumerate(TYPED):
            request = example | {"account_name": name, "account_domain": domain}
            request["customer_email"] = f"{local}@{domain}"
            await open_request(store, number, request, PAT)
        for number, (*_, searches) in enumerate(TYPED):
            assert {search: await found(search) for search in searches} == dict.fromkeys(
                searches, str(number)
            )


async def test_search_finds_the_present_approver(
    listed: tuple[AccountStore, RequestListing], example: dict[str, Any]
) -> None:
    store, requests = listed

    async def found(search: str) -> str:
        return ids(await requests.page(owner=None, search=search))

    def request_for(customer: str) -> SmartAccountRequest:
        changes = {"account_name": "100 Pure", "account_domain": "hundred.example"}
        return SmartAccountRequest.model_validate(example | changes | {"customer_email": customer})

    link = IssueLink(request_id="1", request=request_for("bo@x.example"), ordinal=2, at=NOW)
    await store.requests.issue_link(link, (), LIMITS)
    assert (await found("ada.1@"), await found("BO@X")) == ("", "1")
    accepted = Decision(status=Status.ACTIVE, at=NOW)
    decided = RecordDecision(request_id="1", decision=accepted, request=request_for("cy@y.example"))
    await store.requests.activate(decided)
    assert (await found("bo@x"), await found("CY@Y")) == ("", "1")


async def test_pages(listed: tuple[AccountStore, RequestListing]) -> None:
    _, requests = listed
    pages = [await requests.page(owner=PAT, offset=offset, limit=2) for offset in range(0, 8, 2)]
    assert [ids(page) for page in pages] == ["54", "21", "0", ""]
    assert {page.total for page in pages} == {5}


async def test_batches(
    listed: tuple[AccountStore, RequestListing], example: dict[str, Any]
) -> None:
    store, requests = listed
    batches = requests.batches(owner=PAT, status=Status.PENDING, size=2)
    found = ["".join(each.request.id for each in await anext(batches))]
    # A new request moves no other request to another batch.
    await open_request(store, 6, example | {"account_domain": "new.example"}, PAT)
    found += ["".join(each.request.id for each in batch) async for batch in batches]
    assert found == ["54", "21", ""]


async def test_last_email_of_each_request(listed: tuple[AccountStore, RequestListing]) -> None:
    store, requests = listed
    for request_id, kind, minute in [
        ("4", EmailKind.ACTIVATION, 2),
        ("4", EmailKind.REQUEST_RECEIVED, 1),
        ("5", EmailKind.REQUEST_RECEIVED, 3),
    ]:
        at = NOW + timedelta(minutes=minute)
        email = Email(kind=kind, to=Addressee.CUSTOMER)
        outcome = EmailOutcome(state=EmailState.SENT, at=at)
        await add_email(store, request_id, email, outcome)
    page = await requests.page(owner=PAT, limit=3)
    last = [each.last_email and (each.last_email.kind, each.last_email.at) for each in page.items]
    assert last == [
        (EmailKind.REQUEST_RECEIVED, NOW + timedelta(minutes=3)),
        (EmailKind.ACTIVATION, NOW + timedelta(minutes=2)),
        None,
    ]


async def test_newest_of_a_domain(listed: tuple[AccountStore, RequestListing]) -> None:
    _, requests = listed

    async def newest(
        workflow_id: str, owner: Identity | None, run: str | None = None
    ) -> str | None:
        found = await requests.newest(workflow_id, owner=owner, run_id=run)
        return found.id if found else None

    pure, snake = "smart-account-pure.example", "smart-account-snake-x.example"
    assert await newest(pure, PAT) == "5"
    assert await newest(pure, PAT, "0") == "0"
    assert await newest(pure, PAT, "1") is None  # of another domain
    assert await newest(pure, KIM) is None
    assert await newest(pure, KIM, "0") is None
    assert await newest(snake, KIM) == "3"
    assert await newest(snake, None) == "3"
    assert await newest("smart-account-%", None) is None
