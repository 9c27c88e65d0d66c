"""The caller of the API is an issuer and a subject, whatever their address is."""

import pytest

from smart_accounts.contract.messages import SmartAccountRequest
from tests.support.api import ACME_REQUEST, REQUESTS, Api

PAT = "pat@partner.example"
PERSON = {"email": PAT, "name": "Pat Lee", "company": "Partner Ltd"}
KEY = {"Idempotency-Key": "a-key"}


async def start_over_temporal(api: Api) -> str:
    request = SmartAccountRequest.model_validate(api.body | {"requester": PERSON})
    return (await api.temporal.start(request)).request_id


async def test_caller_keeps_requests_and_keys_when_the_address_changes(api: Api) -> None:
    first = await api.http.post(REQUESTS, json=api.body, headers=KEY)
    new = api.issuer.headers(email="pat.roy@new.example", name="Pat Roy", company="New Ltd")
    for stored in (False, True):
        if stored:
            await api.store_running_request()
        again = await api.http.post(REQUESTS, json=api.body, headers=KEY | new)
        assert again.json()["request_id"] == first.json()["request_id"]
        assert (await api.http.get(ACME_REQUEST, headers=new)).status_code == 200
    assert (await api.http.get(REQUESTS, headers=new)).json()["total"] == 1


async def test_key_of_another_person_with_the_address_is_another_key(api: Api) -> None:
    first = await api.http.post(REQUESTS, json=api.body, headers=KEY)
    other = api.issuer.headers(sub="mallory", email=PAT.upper())
    for stored in (False, True):
        if stored:
            await api.store_running_request()
        response = await api.http.post(REQUESTS, json=api.body, headers=KEY | other)
        assert response.status_code == 409
        assert first.json()["request_id"] not in response.text
        assert (await api.http.get(ACME_REQUEST, headers=other)).status_code == 404


@pytest.mark.parametrize("path", [REQUESTS, ACME_REQUEST])
async def test_first_call_adopts(api: Api, path: str) -> None:
    run = await start_over_temporal(api)
    assert (await api.http.get(ACME_REQUEST)).status_code == 404  # no worker has stored it
    await api.store_running_request()
    found = (await api.http.get(path)).json()
    assert run in str(found)
    [event] = await api.store.audit.of_request(run)
    assert (event.action, event.email) == ("adopt", PAT)
    other = api.issuer.headers(sub="mallory")
    assert (await api.http.get(ACME_REQUEST, headers=other)).status_code == 404


async def test_actions_of_the_api_are_recorded(api: Api) -> None:
    for _ in range(2):
        await api.http.post(REQUESTS, json=api.body, headers=KEY)
    run = await api.store_running_request()
    operator = api.issuer.headers(
        sub="opal", email="opal@s.example", roles=["smart-accounts-operator"]
    )
    new = {"customer_email": "cy@acme.example"}
    await api.http.post(f"{ACME_REQUEST}/resend")
    await api.http.post(f"{ACME_REQUEST}/replace-approver", json=new, headers=operator)
    await api.http.post(f"{ACME_REQUEST}/withdraw", headers=operator)
    events = await api.store.audit.of_request(run)
    assert [(event.action, event.role, event.email) for event in events] == [
        ("send", "requester", PAT),
        ("resend", "requester", PAT),
        ("replace-approver", "operator", "opal@s.example"),
        ("withdraw", "operator", "opal@s.example"),
    ]
