"""The command line: start Smart Account requests, look at them and act on them."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer

from smart_accounts.cli import answers, operators, output
from smart_accounts.cli.arguments import Json, Version, WorkflowId
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.cli.csv_import import Import, read_rows
from smart_accounts.cli.exit_codes import exit_code_of
from smart_accounts.cli.run import run
from smart_accounts.contract.actions import NewApprover, Withdrawal
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.errors import Rejected
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.process_exit import exit_process

app = typer.Typer(
    help="Start Smart Account requests, look at them and act on them.\n\n"
    "Temporal is found through the environment variables TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE"
    " and the other TEMPORAL_ variables, or through the file that TEMPORAL_CONFIG_FILE names.\n\n"
    "Exit codes: 0 done, 1 rejected by the service, 2 bad input, 3 service unreachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # the only mode that joins the lines of a paragraph
)


@app.callback()
def main(version: Version = False) -> None:
    """Take the options that stand before the name of a command."""


@app.command()
@asynchronous
async def request(
    account_name: Annotated[str | None, typer.Option(help="Required.")] = None,
    customer_email: Annotated[
        str | None, typer.Option(help="The person who may accept for the customer. Required.")
    ] = None,
    account_domain: Annotated[
        str | None, typer.Option(help="Default: the domain of the customer's email address.")
    ] = None,
    note_to_customer: Annotated[str | None, typer.Option(help="For the activation email.")] = None,
    user_email: Annotated[
        list[str] | None,
        typer.Option(help="A person who gets access too. Repeat the option for each person."),
    ] = None,
    note_to_added_users: Annotated[
        str | None, typer.Option(help="For the emails to the added users.")
    ] = None,
    requester_email: Annotated[str | None, typer.Option(help="Required.")] = None,
    requester_name: Annotated[str | None, typer.Option(help="Required.")] = None,
    requester_company: Annotated[str | None, typer.Option(help="Required.")] = None,
    acceptance_window: Annotated[
        str | None,
        typer.Option(help="An ISO 8601 duration from PT1S to P365D. Default: P90D."),
    ] = None,
    as_json: Json = False,
) -> None:
    """Start a request. It is rejected if the domain has an open request (exit code 1)."""
    # No option is required for Typer, because Typer would name only the first missing one.
    requester = {"email": requester_email, "name": requester_name, "company": requester_company}
    start_input = {
        "account_name": account_name,
        "customer_email": customer_email,
        "account_domain": account_domain,
        "note_to_customer": note_to_customer,
        "user_emails": user_email,
        "note_to_added_users": note_to_added_users,
        "requester": {name: value for name, value in requester.items() if value is not None},
        "acceptance_window": acceptance_window,
    }
    await _start(SmartAccountRequest.model_validate(start_input), as_json=as_json)


async def _start(request: SmartAccountRequest, *, as_json: bool) -> None:
    client = await RequestClient.connect()
    started = await client.start(request)
    status = await client.outcome(started)
    if status is not None and status.status is Status.REJECTED:
        raise Rejected(status.reason or "The request was rejected.")
    if as_json:
        ids = {"workflow_id": started.workflow_id, "request_id": started.request_id}
        output.show_json(ids | {"status": output.status_json(status)})
    elif status is None:
        output.show(
            f"The request is recorded as {started.workflow_id}. {answers.NOT_PROCESSED_YET}"
        )
    else:
        output.show(output.status_panel(status))


@app.command()
@asynchronous
async def status(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Show the newest request of a domain."""
    client = await RequestClient.connect()
    found = await client.status(workflow_id)
    if as_json:
        output.show_json({"workflow_id": workflow_id, "status": output.status_json(found)})
    else:
        output.show(output.status_panel(found))


@app.command("list")
@asynchronous
async def list_requests(
    status: Annotated[
        Status | None,
        typer.Option(
            "--status",  # by default, Typer 0.27 makes --STATUS of this metavar
            metavar="STATUS",
            help=f"Only requests with this status: {', '.join(Status)}.",
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """List the requests that Temporal keeps, newest first."""
    client = await RequestClient.connect()
    found = [each async for each in client.list(status)]
    if as_json:
        output.show_json([output.listed_json(each) for each in found])
    elif found:
        output.show(output.requests_table(found))
    else:
        output.show("No requests.")


@app.command()
@asynchronous
async def accept(
    workflow_id: WorkflowId,
    accepted_by: Annotated[
        str | None, typer.Option(help="The person who accepts. It is only recorded.")
    ] = None,
    as_json: Json = False,
) -> None:
    """Accept the open request of a domain for the customer."""
    client = await RequestClient.connect()
    answer = client.accept(workflow_id, accepted_by=accepted_by)
    expected = (Status.ACTIVATING, Status.ACTIVE)
    await answers.send(client, workflow_id, answer, expected, as_json=as_json)


@app.command()
@asynchronous
async def decline(
    workflow_id: WorkflowId,
    reason: Annotated[str | None, typer.Option(help="The requester is told the reason.")] = None,
    as_json: Json = False,
) -> None:
    """Decline the open request of a domain for the customer."""
    client = await RequestClient.connect()
    answer = client.decline(workflow_id, reason=reason)
    await answers.send(client, workflow_id, answer, (Status.DECLINED,), as_json=as_json)


@app.command()
@asynchronous
async def resend(workflow_id: WorkflowId, as_json: Json = False) -> None:
    """Send the customer a new activation email. The previous link no longer works."""
    client = await RequestClient.connect()
    output.show_action(workflow_id, await client.resend(workflow_id), as_json=as_json)


@app.command()
@asynchronous
async def replace_approver(
    workflow_id: WorkflowId,
    customer_email: Annotated[
        str, typer.Argument(metavar="EMAIL", help="The person who may accept from now on.")
    ],
    as_json: Json = False,
) -> None:
    """Ask another person at the customer to accept. The deadline stays the same."""
    new = NewApprover.model_validate({"customer_email": customer_email})
    client = await RequestClient.connect()
    output.show_action(
        workflow_id, await client.replace_approver(workflow_id, new), as_json=as_json
    )


@app.command()
@asynchronous
async def withdraw(
    workflow_id: WorkflowId,
    reason: Annotated[
        str | None, typer.Option(help="The reason is recorded. The customer is not told.")
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            help="The operator who withdraws the request, which is only recorded. Without it, the"
            " requester does."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Withdraw the open request of a domain. A customer who was asked is told by email."""
    withdrawal = Withdrawal(reason=reason, by=None if by is None else operators.operator(by))
    client = await RequestClient.connect()
    output.show_action(workflow_id, await client.withdraw(workflow_id, withdrawal), as_json=as_json)


app.command()(operators.review)
app.command()(operators.close)


@app.command("import")
@asynchronous
async def import_file(
    file: Annotated[
        Path,
        typer.Argument(metavar="FILE", exists=True, dir_okay=False, help="A CSV file in UTF-8."),
    ],
    as_json: Json = False,
) -> None:
    """
    Start one request for each row of a CSV file. It is safe to run it again.

    The first row names the columns. Required columns: account_name, customer_email,
    requester_email, requester_name, requester_company. Optional columns: account_domain,
    note_to_customer, user_emails (several addresses in one cell), note_to_added_users,
    acceptance_window. Cells are separated by commas, semicolons or tabs.

    A row whose domain already has an open request starts nothing and does not count as a
    failure, so running the same file twice ends with exit code 0. The exit code is 1 if the
    service rejected a row and 2 if a row is bad input.

    Every row is tried, unless a limit is reached (exit code 1) or the service becomes
    unreachable (exit code 3). Then the import stops, says when to continue, and continues
    if the same command is run again.
    """
    rows = read_rows(file)
    client = await RequestClient.connect()
    try:
        with output.progress_bar(len(rows), hidden=as_json) as advance:
            report = await Import(client, advance).run(rows)
    except asyncio.CancelledError:  # Ctrl-C
        typer.echo("Stopped. Run the command again to continue.", err=True)
        raise
    if as_json:
        output.show_json(output.report_json(report))
    else:
        output.show(output.report_table(report), output.report_summary(report))
    raise typer.Exit(exit_code_of(report))


if __name__ == "__main__":
    exit_process(run(app))
