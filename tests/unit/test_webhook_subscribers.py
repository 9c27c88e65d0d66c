"""Webhook events in the store: for whom each is written."""

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from smart_accounts.contract.messages import Status
from smart_accounts.contract.webhooks import EndpointState, EventType
from smart_accounts.store.audit import Actor as StoreActor
from smart_accounts.store.audit import Origin
from smart_accounts.store.audit import Role as StoreRole
from smart_accounts.store.sessions import Session
from smart_accounts.store.store import AccountStore
from tests.support.partners import KIM, OPERATOR, PAT
from tests.support.stored_requests import LIMITS, NOW, decide, open_request
from tests.support.webhooks import add_endpoint, opening, types, written


async def test_only_the_owner_and_operators_get_an_event(
    store: AccountStore, example: dict[str, Any]
) -> None:
    same_subject = replace(PAT, issuer="https://other.example", email="pat@other.example")
    same_address = replace(KIM, email=PAT.email)
    endpoints = {
        name: await add_endpoint(store, owner, for_all_requests=owner.is_operator)
        for name, owner in {
            "pat": PAT,
            "same subject": same_subject,
            "same address": same_address,
            "all": OPERATOR,
        }.items()
    }
    operators_own = await add_endpoint(store, OPERATOR)
    new_address = {"email": "pat@new.example", "name": "Pat Lee", "company": "Partner Ltd"}
    await open_request(store, example, "one", requester=new_address)
    nobodys: dict[str, Any] = {"requester_issuer": None, "requester_subject": None}
    await store.requests.open(opening(example, "two", **nobodys), (), LIMITS)
    half: dict[str, Any] = {"requester_issuer": "", "requester_subject": ""}
    await store.requests.open(opening(example, "three", **half), (), LIMITS)
    got = {name: await written(store, each) for name, each in endpoints.items()}
    assert {name: sorted(str(each.request_id) for each in got[name]) for name in got} == {
        "pat": ["one"],
        "same subject": [],
        "same address": [],
        "all": ["one", "three", "two"],
    }
    assert await written(store, operators_own) == []


async def test_person_who_adopts_a_request_gets_its_later_events(
    store: AccountStore, example: dict[str, Any]
) -> None:
    endpoint = await add_endpoint(store)
    nobodys: dict[str, Any] = {"requester_issuer": None, "requester_subject": None}
    await store.requests.open(opening(example, "one", **nobodys), (), LIMITS)
    actor = StoreActor(role=StoreRole.REQUESTER, email=PAT.email, identity=PAT.identity)
    origin = Origin(client_address=None, user_agent=None)
    await store.adoption.adopt(PAT.identity, actor, origin, NOW)
    await decide(store, "one", Status.LAPSED)
    assert [(each.type, each.sequence) for each in await written(store, endpoint)] == [
        ("request.lapsed", 2)
    ]


async def test_former_operator_gets_no_more_events_of_others(
    store: AccountStore, example: dict[str, Any]
) -> None:
    everyones = await add_endpoint(store, OPERATOR, for_all_requests=True)
    own = await add_endpoint(store, OPERATOR)
    await open_request(store, example, "one")
    now = datetime.now(UTC)
    for number, is_operator in enumerate((True, False)):
        session = Session(
            id=str(number),
            partner=replace(OPERATOR, is_operator=is_operator),
            csrf="",
            began_at=now,
            last_used_at=now,
            client_address="",
            user_agent="",
        )
        await store.sessions.begin(session, "", None)
        left = await store.webhooks.find(everyones.id)
        assert left
        assert left.state is (EndpointState.ENABLED if is_operator else EndpointState.PAUSED)
    assert await store.deliveries.due(everyones.id, now, 10) == []
    kept = await store.webhooks.find(own.id)
    assert kept
    assert kept.state is EndpointState.ENABLED


async def test_endpoint_gets_only_the_types_that_it_chose(
    store: AccountStore, example: dict[str, Any]
) -> None:
    ends = await add_endpoint(store, event_types=[EventType.ACTIVE, EventType.LAPSED])
    paused = await add_endpoint(store, event_types=[EventType.PENDING])
    await store.webhooks.set_state(paused.id, EndpointState.PAUSED, NOW)
    await open_request(store, example, "one")
    await decide(store, "one", Status.ACTIVE)
    assert [(each.type, each.sequence) for each in await written(store, ends)] == [
        ("request.active", 2)
    ]
    assert await types(store, paused) == ["request.pending"]
