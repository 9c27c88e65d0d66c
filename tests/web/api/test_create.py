"""Creating requests through the API."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from tests.support.api import ACME_REQUEST, REQUESTS, Api, check_problem, errors_of


async def test_created_request_is_at_its_location(api: Api) -> None:
    response = await api.http.post(REQUESTS, json=api.body)
    assert response.status_code == 201
    created = response.json()
    assert (created["status"], created["workflow_id"]) == (
        "requested",
        "smart-account-acme.example",
    )
    assert response.headers["location"] == f"{ACME_REQUEST}?run={created['request_id']}"
    assert (await api.http.get(response.headers["location"])).json() == created
    assert (await api.http.get(ACME_REQUEST)).json() == created
    running, _ = api.temporal.running["smart-account-acme.example"]
    requester = running.request.requester
    assert (requester.email, requester.company) == ("pat@partner.example", "Partner Ltd")
    assert running.request.user_emails == ("bo@acme.example",)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"account_name": None}, {"account_name": "is required"}),
        ({"account_name": 7}, {"account_name": "must be text"}),
        ({"customer_email": "ada"}, {"customer_email": "must be one email address"}),
        ({"customer_email": "Pat@partner.example"}, {"customer_email": "must differ"}),
        ({"user_emails": "bo@acme.example"}, {"user_emails": "must be a list"}),
        ({"user_emails": ["bo", "cy@acme.example"]}, {"user_emails": "entry 1 must be"}),
        ({"acceptance_window": "P1D"}, {"acceptance_window": "is not a known field"}),
        ({"reminders": []}, {"reminders": "is not a known field"}),
        ({"requester": {"email": "eve@evil.example"}}, {"requester": "is not a known field"}),
        ({"<script>": 1}, {"?": "is not a known field"}),
        (
            {"account_name": "a<b", "account_domain": "co.uk", "note_to_customer": "\u202e"},
            {"account_name": "<", "account_domain": "suffix", "note_to_customer": "control"},
        ),
    ],
)
async def test_each_invalid_field_has_one_error(
    api: Api, change: dict[str, Any], expected: dict[str, str]
) -> None:
    found = errors_of(await api.http.post(REQUESTS, json=api.body | change))
    assert found.keys() == expected.keys()
    assert all(expected[name] in found[name] for name in found)
    assert not api.temporal.running


@pytest.mark.parametrize("optional", ["account_domain", "note_to_customer", "user_emails"])
async def test_null_counts_as_absent(api: Api, optional: str) -> None:
    response = await api.http.post(REQUESTS, json=api.body | {optional: None})
    assert response.status_code == 201


async def test_request_is_rejected_for_its_domain_or_the_limit(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    again = await api.http.post(REQUESTS, json=api.body)
    assert "under way" in check_problem(again, 409)["detail"]
    await api.end_request(Status.ACTIVE)
    taken = await api.http.post(REQUESTS, json=api.body)
    assert "already has an active" in check_problem(taken, 409)["detail"]
    for number in range(5):
        domain = f"acme-{number}.example"
        other = {"account_domain": domain, "customer_email": "cy@acme.example"}
        await api.http.post(REQUESTS, json=api.body | other)
        await api.store_running_request(f"smart-account-{domain}")
    other["account_domain"] = "acme-5.example"
    many = check_problem(await api.http.post(REQUESTS, json=api.body | other), 409)
    assert "5 open requests for this customer" in many["detail"]
    assert datetime.fromisoformat(many["retry_at"]) > datetime.now(UTC)
