"""The command-line client: start Smart Account requests, look at them, change and answer them."""

import asyncio
import contextlib
import os
import sys
from collections.abc import Awaitable, Callable, Sequence
from enum import IntEnum
from pathlib import Path
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from smart_accounts.cli import output
from smart_accounts.cli.csv_import import Report, Result, Row, read_rows, start_all
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.fields import AccountDomain
from smart_accounts.contract.messages import (
    ActionResult,
    NewApprover,
    SmartAccountRequest,
    Status,
    Withdrawal,
)
from smart_accounts.contract.names import workflow_id
from smart_accounts.errors import Rejected, SmartAccountsError, Unavailable
from smart_accounts.temporal.client import RequestClient


class ExitCode(IntEnum):
    DONE = 0
    REFUSED = 1
    BAD_INPUT = 2
    UNAVAILABLE = 3
    FAULT = 70
    """A defect of this program; EX_SOFTWARE of sysexits.h."""


app = typer.Typer(
    help=f"{__doc__}\n\nFinds Temporal by TEMPORAL_ADDRESS, TEMPORAL_NAMESPACE and the other"
    " TEMPORAL_ variables, or a TEMPORAL_CONFIG_FILE.\n\n"
    "Exit codes: 0 done, 1 refused by the service, 2 bad input, 3 service unreachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # it alone joins the lines of a paragraph
)


def _workflow_id(text: str) -> str:
    try:
        domain = TypeAdapter(AccountDomain).validate_python(text.removeprefix(workflow_id("")))
    except ValidationError as error:
        raise typer.BadParameter(f"The domain {field_errors(error)[0].message}.") from None
    return workflow_id(domain)


Json = Annotated[bool, typer.Option("--json", help="Print JSON, errors too.")]
WorkflowId = Annotated[
    str,
    typer.Argument(
        metavar="DOMAIN", parser=_workflow_id, help="The account domain, or the workflow id."
    ),
]


@app.command()
def request(
    account_name: Annotated[str | None, typer.Option(help="Required.")] = None,
    customer_email: Annotated[
        str | None, typer.Option(help="Who may accept for the customer. Required.")
    ] = None,
    account_domain: Annotated[
        str | None, typer.Option(help="Default: the domain of the customer's address.")
    ] = None,
    note_to_customer: str | None = None,
    user_email: Annotated[
        list[str] | None, typer.Option(help="Who gets access too; repeat for each.")
    ] = None,
    note_to_added_users: str | None = None,
    requester_email: Annotated[str | None, typer.Option(help="Required.")] = None,
    requester_name: Annotated[str | None, typer.Option(help="Required.")] = None,
    requester_company: Annotated[str | None, typer.Option(help="Required.")] = None,
    acceptance_window: Annotated[
        str | None, typer.Option(help="ISO 8601, PT1S to P365D. Default: P90D.", show_default=False)
    ] = None,
    as_json: Json = False,
) -> None:
    """Start one request. A domain with an open request is refused (exit code 1)."""
    # No option is required for Typer: it would name the first missing one only.
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
    asyncio.run(_request(SmartAccountRequest.model_validate(start_input), as_json=as_json))


async def _request(request: SmartAccountRequest, *, as_json: bool) -> None:
    client = await RequestClient.connect()
    started = await client.start(request)
    status = await client.outcome(started)
    if status is not None and status.status is Status.REJECTED:
        raise Rejected(status.reason or "The request is rejected.")
    if as_json:
        ids = {"workflow_id": started.workflow_id, "request_id": started.request_id}
        output.show_json(ids | {"status": output.status_json(status)})
    elif status is None:
        output.show(
            f"Recorded as {started.workflow_id}; no worker has answered yet."
            " It goes on as soon as one runs."
        )
    else:
        output.show(output.status_panel(status))


@app.command()
def status(request: WorkflowId, as_json: Json = False) -> None:
    """Show where the newest request of a domain stands."""
    asyncio.run(_status(request, as_json=as_json))


async def _status(workflow_id: str, *, as_json: bool) -> None:
    client = await RequestClient.connect()
    status = await client.status(workflow_id)
    if as_json:
        output.show_json({"workflow_id": workflow_id, "status": output.status_json(status)})
    else:
        output.show(output.status_panel(status))


@app.command("list")
def list_requests(
    status: Annotated[Status | None, typer.Option(help="Only those that stand there.")] = None,
    as_json: Json = False,
) -> None:
    """List the requests that Temporal keeps, newest first."""
    asyncio.run(_list(status, as_json=as_json))


async def _list(status: Status | None, *, as_json: bool) -> None:
    client = await RequestClient.connect()
    found = [listed async for listed in client.list(status)]
    if as_json:
        output.show_json([output.listed_json(each) for each in found])
    elif found:
        output.show(output.requests_table(found))
    else:
        output.show("No requests.")


@app.command()
def accept(
    request: WorkflowId,
    accepted_by: Annotated[str | None, typer.Option(help="Recorded, nothing more.")] = None,
    as_json: Json = False,
) -> None:
    """Accept a domain's open request for the customer."""
    asyncio.run(
        _decide(
            request,
            lambda client: client.accept(request, accepted_by=accepted_by),
            leads_to=(Status.ACTIVATING, Status.ACTIVE),
            as_json=as_json,
        )
    )


@app.command()
def decline(
    request: WorkflowId,
    reason: Annotated[str | None, typer.Option(help="The requester is told.")] = None,
    as_json: Json = False,
) -> None:
    """Decline a domain's open request for the customer."""
    asyncio.run(
        _decide(
            request,
            lambda client: client.decline(request, reason=reason),
            leads_to=(Status.DECLINED,),
            as_json=as_json,
        )
    )


async def _decide(
    workflow_id: str,
    signal: Callable[[RequestClient], Awaitable[None]],
    *,
    leads_to: Sequence[Status],
    as_json: bool,
) -> None:
    client = await RequestClient.connect()
    await signal(client)
    try:
        status = await client.status(workflow_id)
    except Unavailable:
        status = None  # the signal is recorded; there is only nobody to ask
    # A signal that comes after another decision is taken too, and changes nothing.
    if status is not None and status.status not in (*leads_to, Status.REQUESTED, Status.PENDING):
        raise Rejected(f"Another decision was made before: the request is {status.status}.")
    if as_json:
        output.show_json({"workflow_id": workflow_id, "status": output.status_json(status)})
    elif status is None:
        output.show("Received. No worker has answered yet; it goes on as soon as one runs.")
    else:
        output.show(f"Received. The request of {status.account_domain} is {status.status}.")


@app.command()
def resend(request: WorkflowId, as_json: Json = False) -> None:
    """Send the customer a new activation email; the link before it is dead."""
    asyncio.run(_act(request, lambda client: client.resend(request), as_json=as_json))


@app.command("replace-approver")
def replace_approver(
    request: WorkflowId,
    customer_email: Annotated[str, typer.Argument(help="Who may accept from now on.")],
    as_json: Json = False,
) -> None:
    """Ask another person of the customer's; the deadline stays."""
    new = NewApprover.model_validate({"customer_email": customer_email})
    asyncio.run(
        _act(request, lambda client: client.replace_approver(request, new), as_json=as_json)
    )


@app.command()
def withdraw(
    request: WorkflowId,
    reason: Annotated[str | None, typer.Option(help="Kept; the customer is not told.")] = None,
    as_json: Json = False,
) -> None:
    """Take a domain's open request back; the customer is told."""
    withdrawal = Withdrawal.model_validate({"reason": reason})
    asyncio.run(_act(request, lambda client: client.withdraw(request, withdrawal), as_json=as_json))


async def _act(
    workflow_id: str, act: Callable[[RequestClient], Awaitable[ActionResult]], *, as_json: bool
) -> None:
    answer = await act(await RequestClient.connect())
    if as_json:
        output.show_json({"workflow_id": workflow_id} | answer.model_dump(mode="json"))
    else:
        output.show(answer.message)


@app.command("import")
def import_file(
    file: Annotated[Path, typer.Argument(exists=True, dir_okay=False, readable=True)],
    as_json: Json = False,
) -> None:
    """
    Start a request for each row of a CSV file; safe to run again.

    The first row names the columns: account_name, customer_email, requester_email,
    requester_name, requester_company, and if wanted account_domain, note_to_customer,
    user_emails (several in one cell), note_to_added_users, acceptance_window. UTF-8; cells
    parted by comma, semicolon or tab.

    Every row is tried. A row whose domain has an open request starts nothing, and is no failure:
    running the same file twice ends with 0. Exit code 1 when the service rejected a row, 2 when a
    row is bad input, 3 when the service became unreachable: run it again to go on.
    """
    rows = read_rows(file)
    report = asyncio.run(_import(rows, as_json=as_json))
    if as_json:
        output.show_json(output.report_json(report))
    else:
        output.show(output.report_table(report), output.report_line(report))
    raise typer.Exit(_report_code(report))


async def _import(rows: Sequence[Row], *, as_json: bool) -> Report:
    client = await RequestClient.connect()
    console = Console(stderr=True)
    columns = (TextColumn("Starting"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    hidden = as_json or not console.is_terminal
    with Progress(*columns, console=console, disable=hidden, transient=True) as progress:
        task = progress.add_task("", total=len(rows))
        return await start_all(client, rows, lambda: progress.advance(task))


def _report_code(report: Report) -> ExitCode:
    counts = report.counts()
    if report.fault is not None:
        return ExitCode.UNAVAILABLE
    if counts[Result.BAD_INPUT]:
        return ExitCode.BAD_INPUT
    return ExitCode.REFUSED if counts[Result.REJECTED] else ExitCode.DONE


def main() -> int:
    # Looked for by hand: a usage error is raised before the options are known.
    as_json = "--json" in sys.argv[1:]
    try:
        return app(standalone_mode=not as_json) or ExitCode.DONE
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:  # noqa: BLE001, a person gets one line, never a stack trace
        code, message, fields = _told(error)
    if as_json:
        kind = code.name.lower().replace("_", "-")
        told = {"kind": kind, "message": message, "fields": output.fields_json(fields)}
        output.show_json({"error": told})
    else:
        console = Console(stderr=True, highlight=False)
        for line in [message, *(f"{_option(each.field)}: {each.message}" for each in fields)]:
            console.print(output.text(line), soft_wrap=True)
    return code


def _told(error: Exception) -> tuple[ExitCode, str, Sequence[FieldError]]:
    match error:
        case ValidationError():
            return ExitCode.BAD_INPUT, "Bad input, nothing was sent.", field_errors(error)
        case BadInput():
            return ExitCode.BAD_INPUT, "Bad input, nothing was done.", error.errors
        case typer.TyperException():
            return ExitCode.BAD_INPUT, error.format_message(), ()
        case SmartAccountsError():
            return _code(error), str(error), ()
        case _:
            return ExitCode.FAULT, f"Unexpected fault: {type(error).__name__}: {error}", ()


def _code(error: SmartAccountsError) -> ExitCode:
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    return ExitCode.REFUSED if isinstance(error, Rejected) else ExitCode.BAD_INPUT


def _option(field: str) -> str:
    return "--" + field.replace("user_emails", "user_email").replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    exit_code = main()
    with contextlib.suppress(BrokenPipeError):
        sys.stdout.flush()
    # The SDK's threads crash one in nine interpreters that finalize under them.
    os._exit(exit_code)
