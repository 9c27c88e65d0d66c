"""Each idempotency key creates at most one request."""

import asyncio
import re
from typing import Any

import httpx
import pytest
from sqlalchemy import func, select

from smart_accounts.contract.messages import Status
from smart_accounts.store import tables
from smart_accounts.store.limits import Rejection
from tests.support.api import REQUESTS, Api

KEY = {"Idempotency-Key": "a-key"}


async def send(
    api: Api, headers: dict[str, str] | dict[bytes, bytes], **changes: Any
) -> httpx.Response:
    return await api.http.post(REQUESTS, json=api.body | changes, headers=headers)


@pytest.mark.parametrize("state", ["requested", "pending", "withdrawn", "active"])
async def test_same_key_and_body_return_the_same_request(api: Api, state: str) -> None:
    first = await send(api, KEY)
    if state == "pending":
        await api.store_running_request()
    elif state != "requested":
        await api.end_request(Status(state))
    again = await send(api, KEY)
    assert (again.status_code, again.json()["status"]) == (201, state)
    assert again.headers["location"] == first.headers["location"]
    for name in ("request_id", "requested_at", "deadline"):
        assert again.json()[name] == first.json()[name]


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"account_domain": "other.example"},
        {"customer_email": "cy@acme.example"},
        {"note_to_customer": None},
        {"user_emails": []},
    ],
)
async def test_same_key_with_another_body_is_rejected(
    api: Api, stored: bool, change: dict[str, Any]
) -> None:
    await send(api, KEY)
    if stored:
        await api.store_running_request()
    response = await send(api, KEY, **change)
    assert response.status_code == 422
    [error] = response.json()["errors"]
    assert error["field"] == "Idempotency-Key"
    assert len(api.temporal.running) == 1


async def test_key_is_checked_before_the_domain(api: Api) -> None:
    await send(api, KEY)
    await api.end_request(Status.ACTIVE)
    assert (await send(api, KEY, account_name="Acme")).status_code == 422


async def test_equivalent_body_is_the_same(api: Api) -> None:
    first = await send(api, KEY, account_domain="acme.example")
    again = await send(api, KEY, account_domain="ACME.example.", account_name=" Acme  Networks")
    assert again.json()["request_id"] == first.json()["request_id"]


async def test_key_of_another_partner_is_another_key(api: Api) -> None:
    await send(api, KEY)
    kim = api.issuer.headers(sub="kim", email="kim@reseller.example")
    for stored in (False, True):
        if stored:
            await api.store_running_request()
        response = await send(api, KEY | kim)
        assert (response.status_code, "request_id" in response.json()) == (409, False)


async def test_two_partners_may_use_the_same_key(api: Api) -> None:
    await send(api, KEY)
    kim = api.issuer.headers(sub="kim", email="kim@reseller.example")
    assert (await send(api, KEY | kim, account_domain="kim.example")).status_code == 201
    assert len(api.temporal.running) == 2


async def test_key_stays_valid_when_the_requester_is_renamed(api: Api) -> None:
    first = await send(api, KEY)
    renamed = await send(
        api, KEY | api.issuer.headers(name="Pat Lee-Roy", email="PAT@partner.example")
    )
    assert renamed.json()["request_id"] == first.json()["request_id"]


async def test_each_call_without_a_key_is_a_new_request(api: Api) -> None:
    assert (await send(api, {})).status_code == 201
    assert (await send(api, {})).status_code == 409


@pytest.mark.parametrize("key", ["", "a b", "a" * 65, "k\u00e9y"])
async def test_invalid_key_is_rejected(api: Api, key: str) -> None:
    response = await send(api, {b"Idempotency-Key": key.encode()})
    assert response.status_code == 422
    assert response.json()["errors"][0]["field"] == "Idempotency-Key"
    assert not api.temporal.running


@pytest.mark.parametrize("key", ["!", "~" * 64])
async def test_shortest_and_longest_key(api: Api, key: str) -> None:
    assert (await send(api, {"Idempotency-Key": key})).status_code == 201


async def test_simultaneous_calls_for_several_domains(api: Api) -> None:
    domains = [f"acme-{number}.example" for number in range(5)]
    responses = await asyncio.gather(*(send(api, KEY, account_domain=domain) for domain in domains))
    assert sorted(response.status_code for response in responses) == [201, 422, 422, 422, 422]
    assert len(api.temporal.running) == 1


async def test_rejected_call_leaves_no_key(api: Api) -> None:
    await send(api, {})
    async with api.store.engine.connect() as connection:
        keys = select(func.count()).select_from(tables.idempotency_keys)
        before = await connection.scalar(keys)
        await connection.rollback()
        assert (await send(api, KEY)).status_code == 409
        assert await connection.scalar(keys) == before


async def test_rejected_call_can_be_repeated_later(api: Api) -> None:
    await send(api, {})
    for _ in range(2):
        assert (await send(api, KEY)).status_code == 409
    await api.end_request(Status.LAPSED)
    assert (await send(api, KEY)).status_code == 201


async def test_request_does_not_count_towards_its_own_limit(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(4):
        domain = f"acme-{number}.example"
        await send(api, {}, account_domain=domain)
        await api.store_running_request(f"smart-account-{domain}")
    first = await send(api, KEY)
    reason_to_reject = api.store.requests.reason_to_reject

    async def store_first(*arguments: Any) -> Rejection | None:
        await api.store_running_request()  # the fifth, which is the limit
        return await reason_to_reject(*arguments)

    monkeypatch.setattr(api.store.requests, "reason_to_reject", store_first)
    again = await send(api, KEY)
    assert again.json()["request_id"] == first.json()["request_id"]


async def test_temporal_gets_only_a_hash_of_the_key(api: Api) -> None:
    await send(api, {"Idempotency-Key": "ada@acme.example"})
    _, key = api.temporal.running["smart-account-acme.example"]
    assert key
    assert re.fullmatch("[0-9a-f]{64}", key)
