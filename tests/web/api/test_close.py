"""Closing accounts through the API."""

from datetime import UTC, datetime

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import CloseAccount
from tests.support.api import ACME_REQUEST, REQUESTS, Api, check_problem, errors_of
from tests.support.partner_site import CLOSING
from tests.web.api.test_read import OPERATOR_CLAIMS

AT = datetime(2026, 11, 25, 12, 0, tzinfo=UTC)
REASON = {"reason": "They asked us to."}


async def test_operator_closes_an_account(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    request_id = await api.end_request(Status.ACTIVE)
    operator = api.issuer.headers(**OPERATOR_CLAIMS)
    response = await api.http.post(f"{ACME_REQUEST}/close", json=REASON, headers=operator)
    assert response.status_code == 200
    assert response.json()["request_id"] == request_id
    assert api.temporal.actions == [("close", "They asked us to.", "kim", request_id)]


async def test_partner_cannot_close_an_account(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.end_request(Status.ACTIVE)
    unknown = await api.http.post(f"{REQUESTS}/smart-account-x.example/close", json=REASON)
    own = await api.http.post(f"{ACME_REQUEST}/close", json=REASON)
    assert check_problem(own, 403) == check_problem(unknown, 403)
    assert not api.temporal.actions


@pytest.mark.parametrize(
    "body", [{}, {"reason": None}, {"reason": " "}, {"reason": "x" * 1025}], ids=str
)
async def test_closing_needs_a_reason(api: Api, body: dict[str, str]) -> None:
    operator = api.issuer.headers(**OPERATOR_CLAIMS)
    response = await api.http.post(f"{ACME_REQUEST}/close", json=body, headers=operator)
    assert errors_of(response).keys() == {"reason"}


async def test_account_is_shown(api: Api) -> None:
    async def account() -> object:
        [listed] = (await api.http.get(REQUESTS)).json()["items"]
        shown = (await api.http.get(ACME_REQUEST)).json()
        assert listed["account"] == shown["account"]
        return shown["account"]

    created = (await api.http.post(REQUESTS, json=api.body)).json()
    assert created["account"] is None
    nobody = {"closed_at": None, "closed_by": None, "reason": None}
    await api.store_running_request()
    assert await account() == {"state": "provisional"} | nobody
    request_id = await api.end_request(Status.ACTIVE)
    assert await account() == {"state": "active"} | nobody
    close = CloseAccount(request_id=request_id, closing=CLOSING, at=AT)
    await api.store.requests.close_account(close)
    assert await account() == {
        "state": "closed",
        "closed_at": "2026-11-25T12:00:00Z",
        "closed_by": "operator",
        "reason": CLOSING.reason,
    }
    assert (await api.http.get(ACME_REQUEST)).json()["status"] == "active"


async def test_request_that_ended_without_an_account_shows_none(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.end_request(Status.DECLINED)
    assert (await api.http.get(ACME_REQUEST)).json()["account"] is None
