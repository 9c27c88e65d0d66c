"""The routes of the API that act on a request."""

from collections.abc import Awaitable
from typing import Annotated

from fastapi import APIRouter, Body, HTTPException
from pydantic import BeforeValidator

from smart_accounts.contract import actions
from smart_accounts.contract.actions import (
    ActionMessage,
    Actor,
    Closing,
    Review,
    ReviewDecision,
    Role,
)
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store.audit import Action
from smart_accounts.store.records import StoredRequest
from smart_accounts.web.api import responses
from smart_accounts.web.api.json_bodies import JsonRoute
from smart_accounts.web.api.models import (
    ActionResult,
    NewApprover,
    NewClosing,
    Rejection,
    Withdrawal,
)
from smart_accounts.web.api.routes import PREFIX, Lookup, RequestLookup, operation_id
from smart_accounts.web.dependencies import Services, Web
from smart_accounts.web.lookup import actor, check_open
from smart_accounts.web.security_log import Event, Outcome

NO_REASON = Withdrawal()
NULL_IS_EMPTY = BeforeValidator(lambda body: {} if body is None else body)

router = APIRouter(
    prefix=PREFIX,
    tags=["requests"],
    route_class=JsonRoute,
    generate_unique_id_function=operation_id,
)


@router.post(
    "/{workflow_id}/resend",
    summary="Resend the activation email",
    responses=responses.ACT_WITHOUT_BODY,
)
async def resend_activation_email(lookup: Lookup, web: Web) -> ActionResult:
    """Send the customer a new activation email. The previous link no longer works."""
    request = await _find_open(lookup)
    by = actor(lookup.partner, request)
    action = web.client.resend(request.workflow_id, run_id=request.id, by=by)
    return await _result(lookup, Action.RESEND, request, action)


@router.post(
    "/{workflow_id}/replace-approver", summary="Replace the approver", responses=responses.ACT
)
async def replace_approver(lookup: Lookup, new: NewApprover, web: Web) -> ActionResult:
    """Ask another person at the customer instead. The deadline does not change.

    If the address is already the approver's, nothing changes and no email is sent.
    """
    request = await _find_open(lookup)
    given = actions.NewApprover(
        customer_email=new.customer_email, by=actor(lookup.partner, request)
    )
    action = web.client.replace_approver(request.workflow_id, given, run_id=request.id)
    return await _result(lookup, Action.REPLACE_APPROVER, request, action)


@router.post("/{workflow_id}/withdraw", summary="Withdraw a request", responses=responses.ACT)
async def withdraw_request(
    lookup: Lookup,
    web: Web,
    withdrawal: Annotated[Withdrawal, NULL_IS_EMPTY, Body()] = NO_REASON,
) -> ActionResult:
    """Withdraw the request. The customer is told, but not the reason. A repeat changes nothing."""
    request = await lookup.find()
    given = actions.Withdrawal(reason=withdrawal.reason, by=actor(lookup.partner, request))
    if given.repeats(request.status, request.decided_by):
        message = ActionMessage.WITHDRAWN_BEFORE
        return ActionResult.of(
            request, actions.ActionResult(status=request.status, message=message)
        )
    await _check_open(lookup, request)
    action = web.client.withdraw(request.workflow_id, given, run_id=request.id)
    return await _result(lookup, Action.WITHDRAW, request, action)


@router.post(
    "/{workflow_id}/approve", summary="Approve a request", responses=responses.ACT_AS_OPERATOR
)
async def approve_request(lookup: Lookup, web: Web) -> ActionResult:
    """Approve a request in review, as an operator who did not make it."""
    return await _review(lookup, web, ReviewDecision.APPROVE, None)


@router.post(
    "/{workflow_id}/reject",
    summary="Reject a request",
    responses=responses.ACT_AS_OPERATOR | responses.BAD_BODY,
)
async def reject_request(lookup: Lookup, rejection: Rejection, web: Web) -> ActionResult:
    """Reject a request in review, as an operator who did not make it."""
    return await _review(lookup, web, ReviewDecision.REJECT, rejection.reason)


async def _review(
    lookup: RequestLookup, web: Services, decision: ReviewDecision, reason: str | None
) -> ActionResult:
    request = await lookup.find()
    if actor(lookup.partner, request).role is not Role.OPERATOR:
        web.security_log.write(lookup.http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403, "Only an operator who did not make the request may review it.")
    review = Review(decision=decision, reason=reason, by=lookup.partner.subject)
    if request.review_decision is decision:
        done = actions.ActionResult(status=request.status, message=review.done_message)
        return ActionResult.of(request, done)
    await _check_open(lookup, request)
    action = web.client.review(request.workflow_id, review, run_id=request.id)
    return await _result(lookup, Action(decision), request, action)


@router.post(
    "/{workflow_id}/close",
    summary="Close an account",
    responses=responses.ACT_AS_OPERATOR | responses.BAD_BODY,
)
async def close_account(lookup: Lookup, new: NewClosing, web: Web) -> ActionResult:
    """Close an active account. Only operators may do this.

    Access ends, the domain is free, and everyone who had access is told the reason. The status of
    the request stays `active`. If no worker runs, the account is closed as soon as one does.
    """
    if not lookup.partner.is_operator:
        web.security_log.write(lookup.http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403, "Only an operator may close an account.")
    request = await lookup.find()
    by = Actor(role=Role.OPERATOR, subject=lookup.partner.subject)
    closing = Closing(account_domain=request.account_domain, reason=new.reason, by=by)
    return await _result(lookup, Action.CLOSE, request, web.client.close(request.id, closing), by)


async def _find_open(lookup: RequestLookup) -> StoredRequest:
    request = await lookup.find()
    await _check_open(lookup, request)
    return request


async def _check_open(lookup: RequestLookup, request: StoredRequest) -> None:
    check_open(request)
    await lookup.web.client.check()  # during an outage, an action would take longer to fail


async def _result(
    lookup: RequestLookup,
    name: Action,
    request: StoredRequest,
    action: Awaitable[actions.ActionResult],
    by: Actor | None = None,
) -> ActionResult:
    log, event = lookup.web.security_log, Event(f"request.{name}")
    role = (by or actor(lookup.partner, request)).role
    try:
        with log.outcome_of(lookup.http_request, event, request.workflow_id, request.id):
            result = await lookup.audit.of_action(name, lookup.partner, request.id, role, action)
    except NotFound as error:  # not 404, because the store has the request
        raise Rejected(str(error)) from None
    return ActionResult.of(request, result)
