"""Finding and erasing a person in the store."""

from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event, select, text

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import Addressee, Email, EmailOutcome, IssueLink
from smart_accounts.errors import Rejected
from smart_accounts.store import tables
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.database import create_engine
from smart_accounts.store.erasure import REASON
from smart_accounts.store.store import AccountStore
from smart_accounts.store.traces import Part
from tests.support.ledger import add_email
from tests.support.partners import OPERATOR, PAT
from tests.support.stored_requests import ISSUER, LIMITS, NOW, decide, everything, open_request
from tests.support.webhooks import add_endpoint, types, written

ADA = "ada@acme.example"


async def test_added_user_leaves_an_active_account_that_stays(
    store: AccountStore, example: dict[str, Any]
) -> None:
    users = ["bo@acme.example", ADA, "jo.ada@acme.example"]
    await open_request(store, example, "one", customer_email="cy@acme.example", user_emails=users)
    await decide(store, "one", Status.ACTIVE, by="cy@acme.example")
    found = await store.erasure.find(ADA)
    [involved] = found.requests
    assert involved.parts == {Part.ADDED_USER, Part.NAMED}
    assert not (involved.must_be_withdrawn)
    assert not (involved.must_be_closed)
    await store.erasure.erase(found.person, ["one"], NOW)
    async with store.engine.connect() as connection:
        left = await connection.scalars(select(tables.account_users.c.email))
        assert set(left) == {"bo@acme.example", "jo.ada@acme.example", "cy@acme.example"}
    kept = await store.requests.find("one")
    assert kept
    assert kept.added_users == ("bo@acme.example", "erased", "jo.ada@acme.example")
    assert (kept.status, kept.note_to_added_users) == (Status.ACTIVE, "Welcome aboard.")
    # An email to the erased user is dropped. Otherwise the closing would wait for it forever.
    closed = [Email(kind=EmailKind.CLOSED, to=Addressee.ADDED_USER, number=n) for n in (1, 2)]
    assert [kept.is_outdated(email) for email in closed] == [False, True]


@pytest.mark.parametrize("longer", ["o'ada@acme.example", "jo=ada@acme.example"])
async def test_person_with_a_longer_address_keeps_everything(
    store: AccountStore, example: dict[str, Any], longer: str
) -> None:
    await open_request(store, example, "one", customer_email=longer)
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    activation = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    await add_email(store, "one", activation, sent, recipient=longer)
    assert not (await store.erasure.find(ADA)).are_there

    await decide(store, "one", Status.ACTIVE, by=longer)
    await open_request(store, example, "two")
    await decide(store, "two", Status.LAPSED)
    before = (await everything(store)).count(longer)
    await store.erasure.erase((await store.erasure.find(ADA)).person, ["two"], NOW)
    rows = await everything(store)
    assert rows.count(longer) == before
    assert rows.count(ADA) == before, "only as a part of the longer address"


async def test_requester_is_erased_with_all_addresses_of_the_sign_in(
    store: AccountStore, example: dict[str, Any]
) -> None:
    pat = Identity(ISSUER, "pat")
    actor = Actor(role=Role.REQUESTER, email="pat@partner.example", name="Pat Lee", identity=pat)
    origin = Origin(client_address="192.0.2.7", user_agent="Firefox")
    await open_request(store, example, "new")
    await open_request(
        store, example, "old", requester={**example["requester"], "email": "p@old.example"}
    )
    kim = Identity(ISSUER, "kim")
    requester = {"email": "kim@partner.example", "name": "Kim Roy", "company": "Partner Ltd"}
    await open_request(store, example, "kim", owner=kim, requester=requester)
    await store.partners.keep_company(ISSUER, "pat", "Partner Ltd")
    await store.adoption.claim_address("P@old.example", pat, NOW)
    await store.audit.record(Action.SEND, actor, origin, "new")
    await decide(store, "new", Status.WITHDRAWN, by="operator", reason=REASON)
    await decide(store, "old", Status.ACTIVE, by=ADA)
    found = await store.erasure.find("pat@partner.example")
    assert found.person.mailboxes == {"pat@partner.example", "p@old.example"}
    assert {each.request.id for each in found.ended} == {"new", "old"}
    await store.erasure.erase(found.person, ["new", "old"], NOW)

    rows = await everything(store)
    for personal in ("pat lee", "pat@partner", "p@old", "'pat'", "192.0.2.7", "on the phone"):
        assert rows.count(personal) == {"on the phone": 1}.get(personal, 0), personal
    new, old = await store.requests.find("new"), await store.requests.find("old")
    assert new
    assert old
    assert (new.reason, new.requester_company) == (REASON, "Partner Ltd")
    assert (old.status, old.customer_email, old.decided_by) == (Status.ACTIVE, ADA, ADA)
    [event] = await store.audit.of_request("new")
    assert (event.action, event.email, event.client_address) == (Action.SEND, None, None)
    for search, ids in {"erased": [], ADA: ["kim", "new", "old"], "new.ex": ["new"]}.items():
        page = await store.listing.page(owner=None, search=search)
        assert sorted(each.request.id for each in page.items) == ids


async def test_nothing_is_erased_while_a_request_is_open_or_has_its_approver(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await open_request(store, example, "one")
    before = await everything(store)
    found = await store.erasure.find(ADA)
    assert [each.must_be_withdrawn for each in found.requests] == [True]
    with pytest.raises(Rejected, match="Run the command again"):
        await store.erasure.erase(found.person, ["one"], NOW)
    assert await everything(store) == before
    await decide(store, "one", Status.ACTIVE)
    found = await store.erasure.find(ADA)
    assert [each.must_be_closed for each in found.requests] == [True]
    before = await everything(store)
    with pytest.raises(Rejected, match="Run the command again"):
        await store.erasure.erase(found.person, ["one"], NOW)
    assert await everything(store) == before


async def test_operator_is_erased_without_ending_an_open_request(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await open_request(store, example, "one")
    opal = Actor(role=Role.OPERATOR, email="o@s.example", identity=Identity(ISSUER, "opal"))
    await store.audit.record(
        Action.RESEND, opal, Origin(client_address=None, user_agent=None), "one"
    )
    found = await store.erasure.find("o@s.example")
    assert [each.stays_open for each in found.requests] == [True]
    await store.erasure.erase(found.person, [], NOW)
    rows = await everything(store)
    assert "o@s.example" not in rows
    assert "opal" not in rows
    request = await store.requests.find("one")
    assert request
    assert (request.status, request.customer_email) == (Status.PENDING, ADA)


async def test_reply_to_an_erased_person_keeps_only_its_codes(
    store: AccountStore, example: dict[str, Any]
) -> None:
    await open_request(store, example, "one")
    first = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    bounced = EmailOutcome(state=EmailState.BOUNCED, at=NOW, answer="550 5.1.1 ada... User unknown")
    await add_email(store, "one", first, bounced, recipient=ADA)
    second = Email(kind=EmailKind.REMINDER, to=Addressee.CUSTOMER)
    sent = EmailOutcome(state=EmailState.SENT, at=NOW)
    await add_email(store, "one", second, sent, recipient=ADA, token="q" * 32)
    await decide(store, "one", Status.UNDELIVERABLE, reason="550 5.1.1 ada... User unknown")
    await store.erasure.erase((await store.erasure.find(ADA)).person, ["one"], NOW)
    statuses = [status for _, status in await store.emails.of_request("one")]
    assert [each.recipient for each in statuses] == ["erased", "erased"]
    assert [each.answer for each in statuses] == ["550 5.1.1", None]
    assert "ada" not in await everything(store)
    # A late report about the second email would bring the address back.
    assert await store.emails.find_returned("q" * 32) is None


async def test_webhooks_go_with_the_person(store: AccountStore, example: dict[str, Any]) -> None:
    """Endpoints of the person, and events about each request that the person is in."""
    moved = replace(PAT, subject="other", email="Pat+new@partner.example")
    own = [await add_endpoint(store, PAT), await add_endpoint(store, moved)]
    note: dict[str, Any] = {"description": "For pat@partner.example"}
    operators = await add_endpoint(store, OPERATOR, for_all_requests=True, **note)
    cy = {"customer_email": "cy@acme.example", "user_emails": []}
    kim = {"email": "kim@partner.example", "name": "Kim Roy", "company": "Partner Ltd"}
    await open_request(store, example, "one")
    await open_request(store, example, "two", owner=Identity(ISSUER, "kim"), requester=kim, **cy)
    await decide(store, "one", Status.DECLINED)
    for endpoint in (*own, operators):
        await store.webhooks.ping(endpoint.id, NOW)
    found = await store.erasure.find("pat@partner.example")
    assert {each.request.id for each in found.requests} == {"one"}
    await store.erasure.erase(found.person, ["one"], NOW)
    left = await store.webhooks.list(OPERATOR.identity, with_all_requests=True)
    assert [(each.id, each.description) for each in left] == [(operators.id, "For erased")]
    assert [await store.webhooks.find(each.id) for each in own] == [None, None]
    assert await types(store, operators) == ["ping", "request.pending"]
    assert [each.request_id for each in await written(store, operators)] == [None, "two"]
    assert not (await store.erasure.find("pat@partner.example")).are_there


async def test_person_whom_only_an_event_names_is_erased(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """The approver was replaced before an email to them was begun."""
    endpoint = await add_endpoint(store)
    await open_request(store, example, "one")
    cy = SmartAccountRequest.model_validate(
        example | {"account_domain": "one.example", "customer_email": "cy@acme.example"}
    )
    await store.requests.issue_link(
        IssueLink(request_id="one", request=cy, ordinal=2, at=NOW), (), LIMITS
    )
    await decide(store, "one", Status.DECLINED)
    found = await store.erasure.find(ADA)
    assert [each.request.id for each in found.ended] == ["one"]
    await store.erasure.erase(found.person, ["one"], NOW)
    assert await written(store, endpoint) == []
    assert ADA not in await everything(store)


async def test_only_what_is_older_is_found(store: AccountStore, example: dict[str, Any]) -> None:
    """The person came back after their erasure. Another person got the address then."""
    later = NOW + timedelta(days=1)
    ada, new_ada = Identity(ISSUER, "ada"), Identity(ISSUER, "new")
    origin = Origin(client_address="192.0.2.7", user_agent="Firefox")
    requester = {**example["requester"], "email": ADA}
    for name, owner, at in (("old", ada, NOW), ("new", new_ada, later)):
        more = {"owner": owner, "requester": requester, "requested_at": at}
        await open_request(store, example, name, customer_email="cy@acme.example", **more)
        await store.adoption.claim_address(f"{name}@acme.example", owner, at)
        email = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
        sent = EmailOutcome(state=EmailState.SENT, at=at)
        await add_email(store, name, email, sent, recipient=ADA, token=name)
    actor = Actor(role=Role.REQUESTER, email=ADA, name="Ada", identity=new_ada)
    await store.audit.record(Action.SEND, actor, origin, "new")
    found = await store.erasure.find(ADA, NOW + timedelta(hours=1))
    assert found.person.identities == {ada}
    assert [each.request.id for each in found.requests] == ["old"]
    counts = {name: len(rows) for name, rows in found.rows.items() if rows}
    assert counts == {"requests": 1, "emails": 1, "address_owners": 1}
    everything_found = await store.erasure.find(ADA)
    assert [each.request.id for each in everything_found.requests] == ["old", "new"]
    assert everything_found.rows["people"]


async def test_reply_that_comes_after_the_erasure_is_not_kept(
    store: AccountStore, example: dict[str, Any]
) -> None:
    """An email that was in flight outlives its workflow's activity."""
    await open_request(store, example, "one", customer_email=ADA)
    email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    queued = EmailOutcome(state=EmailState.QUEUED, at=NOW)
    await add_email(store, "one", email, queued, recipient=ADA, token="q" * 32)
    returned = await store.emails.find_returned("q" * 32)
    assert returned
    await decide(store, "one", Status.WITHDRAWN)
    await store.erasure.erase((await store.erasure.find(ADA)).person, ["one"], NOW)
    refused = EmailOutcome(state=EmailState.FAILED, at=NOW, answer=f"550 {ADA} is unknown")
    later = refused.model_copy(update={"state": EmailState.QUEUED})
    for late in (
        store.emails.record("one", email, later),
        store.emails.mark_returned(returned, str(refused.answer)),
        store.emails.mark_bounced(returned, refused),
    ):
        await late
        assert ADA not in await everything(store)
    [(_, status)] = await store.emails.of_request("one")
    assert (status.state, status.answer) == (EmailState.FAILED, None)


async def test_sqlite_overwrites_what_is_deleted(tmp_path: Path) -> None:
    """Also where SQLite was built without this as its default."""
    path = tmp_path / "store.db"
    engine = create_engine(f"sqlite+aiosqlite:///{path}")

    @event.listens_for(engine.sync_engine, "do_connect")
    def _without(dialect: Any, _record: Any, arguments: Any, options: Any) -> Any:
        connection = dialect.connect(*arguments, **options)
        connection.cursor().execute("PRAGMA secure_delete = OFF")
        return connection

    async with engine.begin() as connection:
        await connection.execute(text("CREATE TABLE t (name TEXT)"))
        await connection.execute(text("INSERT INTO t VALUES ('Ada Byron')"))
    async with engine.begin() as connection:
        await connection.execute(text("DELETE FROM t"))
    await engine.dispose()
    assert b"Ada Byron" not in path.read_bytes()
