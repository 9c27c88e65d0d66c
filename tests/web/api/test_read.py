"""Reading and listing requests through the API."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import uuid4

import pytest

from smart_accounts.contract.messages import EmailKind, EmailState, Status
from smart_accounts.contract.steps import Addressee, Approve, Email, EmailOutcome
from tests.support.api import ACME_REQUEST, REQUESTS, Api, check_problem
from tests.support.ledger import add_email
from tests.support.partners import PAT
from tests.support.webhooks import add_endpoint, written

KIM_CLAIMS = {"sub": "kim", "email": "kim@reseller.example", "company": "Reseller"}
ACTIVATION = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
OPERATOR_CLAIMS = KIM_CLAIMS | {"roles": ["smart-accounts-operator"]}


async def test_foreign_request_is_not_found(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    unknown = await api.http.get(f"{REQUESTS}/smart-account-unknown.example")
    for stored in (False, True):
        run = f"?run={await api.store_running_request()}" if stored else ""
        for method, path in [
            ("GET", ACME_REQUEST + run),
            ("POST", f"{ACME_REQUEST}/resend{run}"),
            ("POST", f"{ACME_REQUEST}/withdraw{run}"),
        ]:
            response = await api.http.request(
                method, path, headers=api.issuer.headers(**KIM_CLAIMS)
            )
            assert check_problem(response, 404) == unknown.json()
        response = await api.http.get(
            ACME_REQUEST + run, headers=api.issuer.headers(**OPERATOR_CLAIMS)
        )
        assert response.status_code == 200
    listed = (await api.http.get(REQUESTS, headers=api.issuer.headers(**KIM_CLAIMS))).json()
    assert (listed["items"], listed["total"]) == ([], 0)
    listed = (await api.http.get(REQUESTS, headers=api.issuer.headers(**OPERATOR_CLAIMS))).json()
    assert listed["total"] == 1
    assert not api.temporal.actions


async def test_foreign_request_costs_the_same_queries_as_none(
    api: Api, monkeypatch: pytest.MonkeyPatch
) -> None:
    await api.http.post(REQUESTS, json=api.body)
    newest, queries = api.store.listing.newest, []

    async def counted(*args: Any, **filters: Any) -> Any:
        queries.append(filters)
        return await newest(*args, **filters)

    monkeypatch.setattr(api.store.listing, "newest", counted)
    counts = []
    for path in (f"{REQUESTS}/smart-account-unknown.example", ACME_REQUEST):
        queries.clear()
        response = await api.http.get(path, headers=api.issuer.headers(**KIM_CLAIMS))
        assert response.status_code == 404
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("name", ["smart-account-", "x", "smart-account-%00", "smart-account-A b"])
async def test_invalid_workflow_id_is_not_found(
    api: Api, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(api.store.listing, "newest", None)  # PostgreSQL rejects NUL
    check_problem(await api.http.get(f"{REQUESTS}/{name}"), 404)


async def test_newest_request_is_shown_unless_a_run_is_named(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    first = await api.end_request(Status.WITHDRAWN)
    assert (await api.http.get(ACME_REQUEST)).json()["status"] == "withdrawn"
    second = (await api.http.post(REQUESTS, json=api.body)).json()["request_id"]
    for stored in (False, True):  # before and after a worker has stored it
        if stored:
            await api.store_running_request()
        newest = (await api.http.get(ACME_REQUEST)).json()
        assert newest["request_id"] == second
        assert newest["status"] == ("pending" if stored else "requested")
    older = (await api.http.get(ACME_REQUEST, params={"run": first})).json()
    assert (older["request_id"], older["status"]) == (first, "withdrawn")
    assert older["decided_by"] == "requester"
    check_problem(await api.http.get(ACME_REQUEST, params={"run": str(uuid4())}), 404)


async def test_newer_request_of_another_partner_is_ignored(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    first = await api.end_request(Status.WITHDRAWN)
    await api.http.post(REQUESTS, json=api.body, headers=api.issuer.headers(**KIM_CLAIMS))
    assert (await api.http.get(ACME_REQUEST)).json()["request_id"] == first


async def test_list_is_filtered_and_paged(api: Api) -> None:
    for number in range(3):
        domain = f"firm-{number}.example"
        body = api.body | {"account_domain": domain, "account_name": f"Firm {number}"}
        await api.http.post(REQUESTS, json=body)
        await api.store_running_request(f"smart-account-{domain}")
    await api.end_request(Status.WITHDRAWN, "smart-account-firm-2.example")

    page = (await api.http.get(REQUESTS, params={"limit": 2, "search": "FIRM"})).json()
    assert [each["account_name"] for each in page["items"]] == ["Firm 2", "Firm 1"]
    assert (page["total"], page["page"], page["limit"]) == (3, 1, 2)
    assert page["items"][0]["last_email"] is None
    last = (await api.http.get(page["next"])).json()
    assert [each["account_name"] for each in last["items"]] == ["Firm 0"]
    assert last["next"] is None
    ended = (await api.http.get(REQUESTS, params={"status": "withdrawn"})).json()
    assert [each["account_name"] for each in ended["items"]] == ["Firm 2"]
    beyond = (await api.http.get(REQUESTS, params={"page": 9})).json()
    assert (beyond["items"], beyond["total"], beyond["next"]) == ([], 3, None)


async def test_event_shows_what_the_api_shows(api: Api) -> None:
    pat = replace(PAT, issuer=api.issuer.url)
    endpoint = await add_endpoint(api.store, pat)
    api.body["account_name"] = '\u00dcn\u00ef \u05d0\u05d1\u200e \U0001f600 "\\'
    await api.http.post(REQUESTS, json=api.body)
    request_id = await api.store_running_request(odd=("Looks odd.",))
    sent = EmailOutcome(state=EmailState.SENT, at=datetime(2026, 11, 25, 12, 0, 0, 120, tzinfo=UTC))
    await add_email(api.store, request_id, ACTIVATION, sent)
    await api.store.requests.approve(Approve(request_id=request_id, at=datetime.now(UTC)))
    [*_, event] = await written(api.store, endpoint)
    shown = (await api.http.get(ACME_REQUEST)).json()
    assert json.loads(event.body)["data"] == shown | {"sequence": 2}
    assert (len(shown["emails"]), shown["needs_attention"]) == (1, ["Looks odd."])
