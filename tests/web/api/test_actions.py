"""Actions on requests through the API."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smart_accounts.contract import actions
from smart_accounts.contract.actions import ActionMessage, Role
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Approve
from smart_accounts.errors import NotFound, Rejected, Unavailable
from tests.support.api import ACME_REQUEST, REQUESTS, Api, check_problem, errors_of

ACTIONS: dict[str, Any] = {
    "resend": None,
    "replace-approver": {"customer_email": "cy@acme.example"},
    "withdraw": {"reason": "No longer needed."},
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_action_is_sent_to_the_run(api: Api, action: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    run = await api.store_running_request()
    response = await api.http.post(f"{ACME_REQUEST}/{action}", json=ACTIONS[action])
    assert response.status_code == 200
    assert response.json() == {
        "workflow_id": "smart-account-acme.example",
        "request_id": run,
        "status": "pending",
        "message": "Done.",
    }
    [(name, _, workflow_id, run_id)] = api.temporal.actions
    assert (name, workflow_id, run_id) == (action, "smart-account-acme.example", run)


@pytest.mark.parametrize("body", [b"", b"null", b"{}", b'{"reason": null}'])
async def test_withdrawal_needs_no_reason(api: Api, body: bytes) -> None:
    await api.http.post(REQUESTS, json=api.body)
    headers = {"Content-Type": "application/json"} if body else {}
    response = await api.http.post(f"{ACME_REQUEST}/withdraw", content=body, headers=headers)
    assert response.status_code == 200
    assert api.temporal.actions[0][1] is None


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("Too late."), 409),
        (NotFound("There is no open request there."), 409),
        (BadInput([FieldError(field="customer_email", message="is bad")]), 422),
        (Unavailable("No answer yet."), 503),
    ],
)
async def test_action_fails(api: Api, action: str, error: Exception, status: int) -> None:
    await api.http.post(REQUESTS, json=api.body)
    api.temporal.action_error = error
    check_problem(await api.http.post(f"{ACME_REQUEST}/{action}", json=ACTIONS[action]), status)


@pytest.mark.parametrize("action", ACTIONS)
async def test_ended_request_accepts_no_action(api: Api, action: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.end_request(Status.DECLINED)
    response = await api.http.post(f"{ACME_REQUEST}/{action}", json=ACTIONS[action])
    assert "already declined" in check_problem(response, 409)["detail"]
    assert not api.temporal.actions


async def test_withdrawal_again_succeeds_in_the_same_role(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    run = await api.end_request(Status.WITHDRAWN)
    for body in (None, {"reason": "A reason."}):
        again = await api.http.post(f"{ACME_REQUEST}/withdraw", json=body)
        assert (again.status_code, again.json()["status"]) == (200, "withdrawn")
        assert again.json()["message"] == "The request was already withdrawn. Nothing was changed."
    headers = api.issuer.headers(**OPERATOR)
    by_operator = await api.http.post(f"{ACME_REQUEST}/withdraw", headers=headers)
    assert "already withdrawn" in check_problem(by_operator, 409)["detail"]
    assert not api.temporal.actions
    assert [event.action for event in await api.store.audit.of_request(run)] == ["send"]


async def test_repeat_while_the_workflow_runs_is_not_recorded(api: Api) -> None:
    await api.http.post(REQUESTS, json=api.body)
    run = await api.store_running_request()
    api.temporal.action_result = actions.ActionResult(
        status=Status.PENDING, message=ActionMessage.SAME_APPROVER
    )
    body = {"customer_email": "ada@acme.example"}
    again = await api.http.post(f"{ACME_REQUEST}/replace-approver", json=body)
    assert again.status_code == 200
    assert "already the approver's address" in again.json()["message"]
    assert [event.action for event in await api.store.audit.of_request(run)] == ["send"]


async def test_invalid_new_approver(api: Api) -> None:
    path = f"{ACME_REQUEST}/replace-approver"
    assert errors_of(await api.http.post(path, json={})).keys() == {"customer_email"}
    assert errors_of(await api.http.post(path)).keys() == {"request"}
    both = {"customer_email": "cy@acme.example", "reason": "x"}
    assert errors_of(await api.http.post(path, json=both)).keys() == {"reason"}


REVIEWS: dict[str, Any] = {"approve": None, "reject": {"reason": "Unknown partner."}}
OPERATOR = {"sub": "opal", "email": "opal@service.example", "roles": ["smart-accounts-operator"]}


@pytest.mark.parametrize("review", REVIEWS)
async def test_operator_reviews_a_request(api: Api, review: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.store_running_request()
    path, body = f"{ACME_REQUEST}/{review}", REVIEWS[review]
    response = await api.http.post(path, json=body, headers=api.issuer.headers(**OPERATOR))
    assert response.status_code == 200
    [(name, reason, *_)] = api.temporal.actions
    assert (name, reason) == (review, body and body["reason"])


@pytest.mark.parametrize(
    ("status", "repeated", "other"),
    [(Status.REJECTED, "reject", "approve"), (Status.WITHDRAWN, "approve", "reject")],
)
async def test_same_review_of_an_ended_request_succeeds(
    api: Api, status: Status, repeated: str, other: str
) -> None:
    await api.http.post(REQUESTS, json=api.body)
    run = await api.store_running_request(odd=("The domain is odd.",))
    if repeated == "approve":
        await api.store.requests.approve(Approve(request_id=run, at=datetime.now(UTC)))
    await api.end_request(status)
    headers = api.issuer.headers(**OPERATOR)
    again = await api.http.post(
        f"{ACME_REQUEST}/{repeated}", json=REVIEWS[repeated], headers=headers
    )
    assert (again.status_code, again.json()["status"]) == (200, status)
    otherwise = await api.http.post(f"{ACME_REQUEST}/{other}", json=REVIEWS[other], headers=headers)
    assert f"already {status}" in check_problem(otherwise, 409)["detail"]
    assert not api.temporal.actions


@pytest.mark.parametrize("review", REVIEWS)
async def test_only_another_operator_reviews(api: Api, review: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    path, body = f"{ACME_REQUEST}/{review}", REVIEWS[review]
    check_problem(await api.http.post(path, json=body), 403)
    own = api.issuer.headers(roles=OPERATOR["roles"])
    check_problem(await api.http.post(path, json=body, headers=own), 403)
    stranger = api.issuer.headers(sub="kim", email="kim@reseller.example")
    check_problem(await api.http.post(path, json=body, headers=stranger), 404)
    assert not api.temporal.actions


async def test_rejection_needs_a_reason(api: Api) -> None:
    path = f"{ACME_REQUEST}/reject"
    for body in ({}, {"reason": ""}, {"reason": None}):
        assert errors_of(await api.http.post(path, json=body)).keys() == {"reason"}


@pytest.mark.parametrize(
    ("claims", "role"), [({}, Role.REQUESTER), (OPERATOR, Role.OPERATOR)], ids=str
)
async def test_actions_name_who_acts(api: Api, claims: dict[str, Any], role: Role) -> None:
    await api.http.post(REQUESTS, json=api.body)
    for action, body in ACTIONS.items():
        headers = api.issuer.headers(**claims)
        await api.http.post(f"{ACME_REQUEST}/{action}", json=body, headers=headers)
    assert [by.role for by in api.temporal.actors if by] == [role] * 3


@pytest.mark.parametrize("action", ["replace-approver", "withdraw"])
async def test_caller_cannot_state_who_acts(api: Api, action: str) -> None:
    await api.http.post(REQUESTS, json=api.body)
    body = ACTIONS[action] | {"by": {"role": "operator"}}
    assert errors_of(await api.http.post(f"{ACME_REQUEST}/{action}", json=body)).keys() == {"by"}
