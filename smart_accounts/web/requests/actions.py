"""Actions on a request, of its requester and of operators. Its page shows the result."""

import logging
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Annotated

from fastapi import APIRouter, Depends, Response
from pydantic import ValidationError

from smart_accounts.contract.actions import (
    ActionMessage,
    ActionResult,
    Actor,
    Closing,
    NewApprover,
    Review,
    ReviewDecision,
    Role,
    Withdrawal,
)
from smart_accounts.contract.field_errors import BadInput, field_errors
from smart_accounts.errors import Rejected, SmartAccountsError, Unavailable
from smart_accounts.store.audit import Action
from smart_accounts.store.records import StoredRequest
from smart_accounts.temporal.logs import with_cause
from smart_accounts.web.dependencies import (
    AnySessionForm,
    CheckedRequest,
    Operator,
    OtherOperator,
    Responded,
    SignedIn,
)
from smart_accounts.web.http.done_cookie import redirect_with_done
from smart_accounts.web.lookup import actor, check_open
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS
from smart_accounts.web.requests.detail import Detail, DetailPage
from smart_accounts.web.requests.templating import request_path
from smart_accounts.web.security_log import Event

SIGNED_IN_AGAIN = "You have signed in again since you opened the page. Please send this again."

_log = logging.getLogger(__name__)

router = APIRouter(prefix="/requests/{workflow_id}", include_in_schema=False)


async def _action_form(
    form: AnySessionForm, request: CheckedRequest, detail: Detail
) -> dict[str, str]:
    if not form.is_current:
        name = detail.http_request.url.path.rpartition("/")[2]
        problem = {"action": name, "message": SIGNED_IN_AGAIN}
        raise Responded(await detail.show(request, 403, problem=problem))
    return form.fields


ActionForm = Annotated[dict[str, str], Depends(_action_form)]
"""The fields that were sent. If another session opened the page, it is shown again instead."""


@router.post("/resend")
async def resend(
    partner: SignedIn, _: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    by, client = actor(partner, request), detail.web.client
    action = partial(client.resend, request.workflow_id, run_id=request.id, by=by)
    return await _act(detail, request, "resend", action)


@router.post("/replace-approver")
async def replace_approver(
    partner: SignedIn, form: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    try:
        new = NewApprover(customer_email=form.get("customer_email", ""), by=actor(partner, request))
    except ValidationError as error:
        return await _show_problem(
            detail, request, "replace-approver", BadInput(field_errors(error))
        )
    client = detail.web.client
    action = partial(client.replace_approver, request.workflow_id, new, run_id=request.id)
    return await _act(detail, request, "replace-approver", action)


@router.post("/withdraw")
async def withdraw(
    partner: SignedIn, form: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    try:
        withdrawal = Withdrawal(reason=form.get("reason") or None, by=actor(partner, request))
    except ValidationError as error:
        return await _show_problem(detail, request, "withdraw", BadInput(field_errors(error)))
    if withdrawal.repeats(request.status, request.decided_by):
        return _done(detail, request, "withdraw-again")
    client = detail.web.client
    action = partial(client.withdraw, request.workflow_id, withdrawal, run_id=request.id)
    return await _act(detail, request, "withdraw", action)


@router.post("/approve")
async def approve(
    _: OtherOperator, __: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    return await _review(detail, request, "approve", None)


@router.post("/reject")
async def reject(
    _: OtherOperator, form: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    return await _review(detail, request, "reject", form.get("reason"))


async def _review(
    detail: DetailPage, request: StoredRequest, name: str, reason: str | None
) -> Response:
    try:
        review = Review(
            decision=ReviewDecision(name), reason=reason or None, by=detail.partner.subject
        )
    except ValidationError as error:
        return await _show_problem(detail, request, name, BadInput(field_errors(error)))
    if request.review_decision is review.decision:
        return _done(detail, request, f"{name}-again")
    client = detail.web.client
    action = partial(client.review, request.workflow_id, review, run_id=request.id)
    return await _act(detail, request, name, action)


@router.post("/close")
async def close(
    operator: Operator, form: ActionForm, request: CheckedRequest, detail: Detail
) -> Response:
    try:
        closing = Closing(
            account_domain=request.account_domain,
            reason=form.get("reason", ""),
            by=Actor(role=Role.OPERATOR, subject=operator.subject),
        )
    except ValidationError as error:
        return await _show_problem(detail, request, "close", BadInput(field_errors(error)))
    action = partial(detail.web.client.close, request.id, closing)
    return await _act(detail, request, "close", action, Role.OPERATOR)


async def _act(
    detail: DetailPage,
    request: StoredRequest,
    name: str,
    action: Callable[[], Awaitable[ActionResult]],
    role: Role | None = None,
) -> Response:
    event, log = Event(f"request.{name}"), detail.web.security_log
    role = role or actor(detail.partner, request).role
    try:
        with log.outcome_of(detail.http_request, event, request.workflow_id, request.id):
            if name != "close":
                check_open(request)
            result = await detail.audit.of_action(
                Action(name), detail.partner, request.id, role, action()
            )
    except (Rejected, BadInput, Unavailable) as error:
        return await _show_problem(detail, request, name, error)
    if result.message == ActionMessage.CLOSE_RECEIVED:
        name += "-received"
    return _done(detail, request, f"{name}-again" if result.is_repeat else name)


def _done(detail: DetailPage, request: StoredRequest, done: str) -> Response:
    """Redirect to the page of the request, which shows the message ``DONE[done]``."""
    return redirect_with_done(detail.web.settings.base_url, request_path(request), done)


async def _show_problem(
    detail: DetailPage, request: StoredRequest, name: str, error: SmartAccountsError
) -> Response:
    """Show the page again, with the error next to the action and with the typed values."""
    message, status, headers = str(error), 409, {}
    if isinstance(error, BadInput):
        label = "New approver's email" if name == "replace-approver" else "The reason"
        message, status = f"{label} {error.errors[0].message}.", 422
    elif isinstance(error, Unavailable):
        _log.warning("responded 503: %s", with_cause(error))
        message, status = error.public_message, 503
        headers = {"Retry-After": str(RETRY_AFTER_SECONDS)}
    problem = {"action": name, "message": message}
    return await detail.show(request, status, headers, problem=problem)
