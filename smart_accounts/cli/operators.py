"""The operators' commands. Temporal's namespace decides who may run them."""

from typing import Annotated
from uuid import UUID

import typer
from pydantic import ValidationError

from smart_accounts.cli import output
from smart_accounts.cli.arguments import Json, WorkflowId
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.contract.actions import Actor, Closing, Review, ReviewDecision, Role
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.names import workflow_id as workflow_id_of
from smart_accounts.temporal.client import RequestClient


def operator(by: str) -> Actor:
    """Return the operator with this name.

    Raises:
        BadInput: the name breaks a rule of ``Actor``.
    """
    try:
        return Actor(role=Role.OPERATOR, subject=by)
    except ValidationError as error:
        message = field_errors(error)[0].message
        raise BadInput([FieldError(field="by", message=message)]) from None


@asynchronous
async def review(
    workflow_id: WorkflowId,
    decision: Annotated[ReviewDecision, typer.Argument(help="What to do with the request.")],
    reason: Annotated[
        str | None, typer.Option(help="Required to reject. The requester is told the reason.")
    ] = None,
    by: Annotated[
        str, typer.Option(help="Who reviews the request. It is only recorded.")
    ] = "starter.py",
    as_json: Json = False,
) -> None:
    """Approve or reject a request in review."""
    given = Review.model_validate({"decision": decision, "reason": reason, "by": by})
    client = await RequestClient.connect()
    output.show_action(workflow_id, await client.review(workflow_id, given), as_json=as_json)


@asynchronous
async def close(
    workflow_id: WorkflowId,
    reason: Annotated[
        str,
        typer.Option(
            help="Required. The customer, the requester and the added users are told the reason."
        ),
    ] = "",
    by: Annotated[
        str, typer.Option(help="Who closes the account. It is only recorded.")
    ] = "starter.py",
    request_id: Annotated[
        UUID | None,
        typer.Option(help="The request that led to the account, if Temporal no longer keeps it."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Close the active account of a domain. Everyone who had access is told."""
    closing = Closing(
        account_domain=workflow_id.removeprefix(workflow_id_of("")),
        reason=reason,
        by=operator(by),
    )
    client = await RequestClient.connect()
    account = str(request_id) if request_id else await client.find_account(workflow_id)
    output.show_action(workflow_id, await client.close(account, closing), as_json=as_json)
