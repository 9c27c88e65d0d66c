"""Who owns a request, and the audit trail, on both databases."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import Checked, OpenRequest
from smart_accounts.store.audit import Action, Actor, Agreement, Origin, Role
from smart_accounts.store.database import create_engine, transaction
from smart_accounts.store.migrate import migrate, upgrade
from smart_accounts.store.store import AccountStore
from tests.support.limits import new_limits
from tests.support.store import QueryDatabase

NOW = datetime(2026, 11, 25, 12, tzinfo=UTC)
LIMITS = new_limits(open_per_customer=100, emails_per_mailbox_per_day=500)
ISSUER = "https://login.example"
PAT, MALLORY = Identity(ISSUER, "pat"), Identity(ISSUER, "mallory")
ORIGIN = Origin(client_address="192.0.2.7", user_agent="Firefox")


def actor(person: Identity, email: str = "pat@partner.example") -> Actor:
    return Actor(role=Role.REQUESTER, email=email, name="Pat Lee", identity=person)


@pytest.fixture
async def store(any_database_url: str) -> AsyncIterator[AccountStore]:
    await migrate(any_database_url)
    async with AccountStore.open(any_database_url) as opened:
        yield opened


@pytest.fixture
def add(store: AccountStore, example: dict[str, Any]) -> Any:
    async def added(domain: str, owner: Identity | None = None, **requester: str) -> str:
        request = example | {"account_domain": domain, "customer_email": f"ada@{domain}"}
        request["requester"] = example["requester"] | requester
        opening = OpenRequest(
            request_id=domain,
            request=SmartAccountRequest.model_validate(request),
            requested_at=NOW,
            deadline=NOW + timedelta(days=90),
            requester_issuer=owner.issuer if owner else None,
            requester_subject=owner.subject if owner else None,
            idempotency_key=f"key of {domain}",
        )
        assert await store.requests.open(opening, (), LIMITS) == Checked()
        return domain

    return added


async def owned(store: AccountStore, person: Identity) -> set[str]:
    page = await store.listing.page(owner=person)
    return {each.request.id for each in page.items}


async def adopt(store: AccountStore, person: Identity, email: str = "pat@partner.example") -> None:
    await store.adoption.adopt(person, actor(person, email), ORIGIN, NOW)


async def test_requests_without_owner_are_adopted_once(store: AccountStore, add: Any) -> None:
    await add("one.example", email="Pat@partner.example")
    await add("two.example")
    await add("kim.example", email="kim@reseller.example")
    await add("own.example", MALLORY)
    await adopt(store, PAT, "PAT@partner.example")
    assert await owned(store, PAT) == {"one.example", "two.example"}
    [event] = await store.audit.of_request("one.example")
    assert (event.action, event.role, event.at) == (Action.ADOPT, Role.REQUESTER, NOW)
    assert (event.email, event.client_address) == ("PAT@partner.example", "192.0.2.7")

    # Neither these requests nor later ones belong to another person with the address.
    await add("three.example")
    await adopt(store, MALLORY)
    assert await owned(store, MALLORY) == {"own.example"}
    await adopt(store, PAT)
    assert await owned(store, PAT) == {"one.example", "two.example", "three.example"}
    assert len(await store.audit.of_request("one.example")) == 1


async def test_address_belongs_to_the_first_person_who_signs_in(
    store: AccountStore, add: Any
) -> None:
    for person in (PAT, MALLORY):
        await store.adoption.claim_address("Pat@partner.example", person, NOW)
    await add("one.example")
    await adopt(store, MALLORY)
    assert await owned(store, MALLORY) == set()
    await adopt(store, PAT)
    assert await owned(store, PAT) == {"one.example"}


async def test_only_one_of_two_people_adopts(store: AccountStore, add: Any) -> None:
    domains = {await add(f"firm-{number}.example") for number in range(5)}
    await asyncio.gather(*(adopt(store, person) for person in (PAT, MALLORY) * 3))
    by_pat, by_mallory = await owned(store, PAT), await owned(store, MALLORY)
    assert sorted([by_pat, by_mallory], key=len) == [set(), domains]
    for domain in domains:
        assert len(await store.audit.of_request(domain)) == 1


async def test_key_finds_only_the_requests_of_its_owner(store: AccountStore, add: Any) -> None:
    """Any client can set the memo, also to a key that somebody else uses."""
    await add("pat.example", PAT)
    for person in (MALLORY, Identity("https://other.example", PAT.subject)):
        assert await store.idempotency.find_request(person, "key of pat.example") is None
    found = await store.idempotency.find_request(PAT, "key of pat.example")
    assert found
    assert found.id == "pat.example"


async def test_company_is_marked_unless_the_provider_named_it(
    store: AccountStore, add: Any
) -> None:
    await store.partners.keep_company(PAT.issuer, PAT.subject, "Famous Company")

    async def is_stated(domain: str) -> bool:
        request = await store.requests.find(domain)
        assert request
        return request.company_is_stated

    assert await is_stated(await add("typed.example", PAT, company="Famous Company"))
    assert await is_stated(await add("temporal.example"))
    # The provider names the company of Mallory, and since then also that of Pat.
    assert not await is_stated(await add("supplied.example", MALLORY, company="Partner Ltd"))
    assert not await is_stated(await add("since.example", PAT, company="Pat of the provider"))


async def test_audit_trail_keeps_every_event(store: AccountStore) -> None:
    operator = Actor(role=Role.OPERATOR, email="o@s.example", identity=Identity(ISSUER, "opal"))
    customer = Actor(role=Role.CUSTOMER, email="ada@acme.example")
    agreement = Agreement(link_ordinal=2, text="I accept.")
    await store.audit.record(Action.SEND, actor(PAT, "old@partner.example"), ORIGIN, "run")
    await store.audit.record(Action.SEND, actor(PAT), ORIGIN, "run")  # sent twice
    for _ in range(2):
        await store.audit.record(Action.RESEND, operator, ORIGIN, "run")
        await store.audit.record(Action.ACCEPT, customer, ORIGIN, "run", agreement)
    await store.audit.record(Action.WITHDRAW, actor(PAT), ORIGIN, "another")
    events = await store.audit.of_request("run")
    assert [(event.action, event.email) for event in events] == [
        ("send", "pat@partner.example"),  # the person's present address
        *[("resend", "o@s.example"), ("accept", "ada@acme.example")] * 2,
    ]
    assert (events[2].link_ordinal, events[2].agreed_text) == (2, "I accept.")
    assert (events[2].client_address, events[2].user_agent) == ("192.0.2.7", "Firefox")


async def test_people_at_once_share_one_row(
    store: AccountStore, any_database_url: str, query_database: QueryDatabase
) -> None:
    await asyncio.gather(
        *(store.audit.record(Action.RESEND, actor(PAT), ORIGIN, "run") for _ in range(6))
    )
    people = await query_database(any_database_url, "SELECT subject FROM people")
    assert people == [{"subject": "pat"}]
    assert len(await store.audit.of_request("run")) == 6


OLD_REQUEST = """
    INSERT INTO requests (
        id, workflow_id, status, account_name, account_domain, customer_email, requester_email,
        requester_name, requester_company, added_users, needs_attention, requested_at, deadline,
        link_ordinal
    ) VALUES (
        'old', 'smart-account-acme.example', 'pending', 'Acme', 'acme.example',
        'ada@acme.example', 'pat@partner.example', 'Pat Lee', 'Partner Ltd', '[]', '[]',
        '2026-11-01 12:00:00', '2027-01-30 12:00:00', 1
    )
"""


async def test_request_from_before_gets_an_owner(
    any_database_url: str, query_database: QueryDatabase
) -> None:
    engine = create_engine(any_database_url)
    async with transaction(engine, writes=True) as connection:
        await connection.run_sync(upgrade, "0006")
    await engine.dispose()
    await query_database(any_database_url, OLD_REQUEST)
    await migrate(any_database_url)
    # The previous release still runs for a moment, and knows no new column.
    new = OLD_REQUEST.replace("'old', 'smart-account-acme.", "'new', 'smart-account-new.")
    await query_database(any_database_url, new)
    async with AccountStore.open(any_database_url) as store:
        old = await store.requests.find("old")
        assert old
        assert (old.requester_subject, old.company_is_stated) == (None, True)
        assert await owned(store, PAT) == set()
        await adopt(store, PAT)
        assert await owned(store, PAT) == {"old", "new"}
