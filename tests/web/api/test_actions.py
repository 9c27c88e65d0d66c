"""Actions on requests through the API."""

from typing import Any

import pytest

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import Status
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


async def test_invalid_new_approver(api: Api) -> None:
    path = f"{ACME_REQUEST}/replace-approver"
    assert errors_of(await api.http.post(path, json={})).keys() == {"customer_email"}
    assert errors_of(await api.http.post(path)).keys() == {"request"}
    both = {"customer_email": "cy@acme.example", "reason": "x"}
    assert errors_of(await api.http.post(path, json=both)).keys() == {"reason"}
