"""One request a key: sent twice, at once, by others, and with something else."""

import asyncio
from typing import Any

import pytest

from smart_accounts.contract.messages import Status

REQUESTS = "/api/v1/requests"
KEY = {"Idempotency-Key": "a-key"}


async def send(api: Any, headers: dict[str, str], **changes: Any) -> Any:
    return await api.http.post(REQUESTS, json=api.body | changes, headers=headers)


@pytest.mark.parametrize("state", ["requested", "pending", "withdrawn", "active"])
async def test_same_key_and_body_is_the_same_request(api: Any, state: str) -> None:
    first = await send(api, KEY)
    if state == "pending":
        await api.worker_stores()
    elif state != "requested":
        await api.ends(Status(state))
    again = await send(api, KEY)
    assert (again.status_code, again.json()["status"]) == (201, state)
    assert again.headers["location"] == first.headers["location"]
    for same in ("request_id", "requested_at", "deadline"):
        assert again.json()[same] == first.json()[same]


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
async def test_same_key_and_another_body_is_refused(
    api: Any, stored: bool, change: dict[str, Any]
) -> None:
    await send(api, KEY)
    if stored:
        await api.worker_stores()
    answer = await send(api, KEY, **change)
    assert answer.status_code == 422
    [error] = answer.json()["errors"]
    assert error["field"] == "Idempotency-Key"
    assert len(api.temporal.running) == 1


async def test_what_is_wrong_with_the_key_comes_before_what_is_wrong_with_the_domain(
    api: Any,
) -> None:
    await send(api, KEY)
    await api.ends(Status.ACTIVE)
    assert (await send(api, KEY, account_name="Acme")).status_code == 422


async def test_body_that_means_the_same_is_the_same(api: Any) -> None:
    first = await send(api, KEY, account_domain="acme.example")
    again = await send(api, KEY, account_domain="ACME.example.", account_name=" Acme  Networks")
    assert again.json()["request_id"] == first.json()["request_id"]


async def test_other_partners_key_is_another_key(api: Any) -> None:
    await send(api, KEY)
    kim = api.as_(sub="kim", email="kim@reseller.example")
    for stored in (False, True):
        if stored:
            await api.worker_stores()
        answer = await send(api, KEY | kim)
        assert (answer.status_code, "request_id" in answer.json()) == (409, False)


async def test_two_partners_may_think_of_the_same_key(api: Any) -> None:
    await send(api, KEY)
    kim = api.as_(sub="kim", email="kim@reseller.example")
    assert (await send(api, KEY | kim, account_domain="kim.example")).status_code == 201
    assert len(api.temporal.running) == 2


async def test_key_survives_a_new_name_of_its_requester(api: Any) -> None:
    first = await send(api, KEY)
    renamed = await send(api, KEY | api.as_(name="Pat Lee-Roy", email="PAT@partner.example"))
    assert renamed.json()["request_id"] == first.json()["request_id"]


async def test_without_a_key_each_is_a_request_of_its_own(api: Any) -> None:
    assert (await send(api, {})).status_code == 201
    assert (await send(api, {})).status_code == 409


@pytest.mark.parametrize("key", ["", "a b", "a" * 65, "k\u00e9y".encode()])
async def test_bad_key_is_named(api: Any, key: Any) -> None:
    answer = await send(api, {"Idempotency-Key": key})
    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "Idempotency-Key"
    assert not api.temporal.running


@pytest.mark.parametrize("key", ["!", "~" * 64])
async def test_shortest_and_longest_key(api: Any, key: str) -> None:
    assert (await send(api, {"Idempotency-Key": key})).status_code == 201


async def test_at_once_for_two_domains_one_has_the_key(api: Any) -> None:
    domains = [f"acme-{number}.example" for number in range(5)]
    answers = await asyncio.gather(*(send(api, KEY, account_domain=each) for each in domains))
    assert sorted(each.status_code for each in answers) == [201, 422, 422, 422, 422]
    assert len(api.temporal.running) == 1


async def test_refused_call_can_be_sent_again_once_the_way_is_free(api: Any) -> None:
    await send(api, {})
    for _ in range(2):
        assert (await send(api, KEY)).status_code == 409
    await api.ends(Status.LAPSED)
    assert (await send(api, KEY)).status_code == 201


async def test_request_is_not_refused_for_being_counted_itself(api: Any, monkeypatch: Any) -> None:
    for number in range(4):
        domain = f"acme-{number}.example"
        await send(api, {}, account_domain=domain)
        await api.worker_stores(f"smart-account-{domain}")
    first = await send(api, KEY)
    reason_to_reject = api.store.requests.reason_to_reject

    async def just_stored(*asked: Any) -> Any:
        await api.worker_stores()  # the fifth, which is as many as there may be
        return await reason_to_reject(*asked)

    monkeypatch.setattr(api.store.requests, "reason_to_reject", just_stored)
    again = await send(api, KEY)
    assert again.json()["request_id"] == first.json()["request_id"]


async def test_what_temporal_keeps_of_a_key_tells_nothing(api: Any) -> None:
    await send(api, {"Idempotency-Key": "ada@acme.example"})
    _, key = api.temporal.running["smart-account-acme.example"]
    assert len(key) == 64
    assert "ada" not in key
