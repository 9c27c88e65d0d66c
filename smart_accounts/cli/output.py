"""The output of the command line: panels and tables for people, JSON for programs."""

import json
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import datetime
from io import TextIOWrapper
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from smart_accounts.cli.csv_import import Outcome, Report, Result
from smart_accounts.cli.exit_codes import ERROR_KINDS, ExitCode, Failure
from smart_accounts.contract.actions import ActionResult
from smart_accounts.contract.characters import MARKS
from smart_accounts.contract.field_errors import FieldError
from smart_accounts.contract.messages import RequestStatus
from smart_accounts.temporal.records import Listed
from smart_accounts.text import counted, printable, utc

_NO_VALUE = "-"


def replace_unknown_characters() -> None:
    """Let standard output and standard error show ``?`` for characters that they lack."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="replace")


def show(*parts: RenderableType) -> None:
    """Print for people. Strings are printed as they are, without markup and highlighting."""
    console = Console(markup=False, highlight=False, emoji=False)
    with console.capture() as shown:
        for part in parts:
            console.print(part, soft_wrap=isinstance(part, str))
    _write(shown.get())


def show_json(value: Any) -> None:
    _write(json.dumps(value, indent=2) + "\n")


def _write(text: str) -> None:
    """Write to standard output. A reader that exits early, such as ``head``, is not an error."""
    with suppress(BrokenPipeError):
        print(text, end="", flush=True)  # noqa: T201 - a command line prints


def show_failure(failure: Failure, *, as_json: bool) -> None:
    """Print an error: as JSON to standard output, or for people to standard error."""
    if as_json:
        error = {
            "kind": ERROR_KINDS[failure.exit_code],
            "message": failure.message,
            "fields": fields_json(failure.fields),
        }
        show_json({"error": error})
        return
    console = Console(stderr=True, highlight=False)
    console.print(text(failure.message), soft_wrap=True)
    for field in failure.fields:
        console.print(text(f"{_option(field.field)}: {field.message}"), soft_wrap=True)


def _option(field: str) -> str:
    """Return the option of ``starter.py request`` that sets a field."""
    return "--" + field.replace("user_emails", "user_email").replace("_", "-").replace(".", "-")


@contextmanager
def progress_bar(
    total: int, *, hidden: bool, label: str = "Starting"
) -> Iterator[Callable[[], None]]:
    """Show a progress bar on a terminal. Yields a function that advances the bar by one."""
    console = Console(stderr=True)
    columns = (TextColumn(label), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    disable = hidden or not console.is_terminal
    with Progress(*columns, console=console, disable=disable, transient=True) as progress:
        task = progress.add_task("", total=total)
        yield lambda: progress.advance(task)


def text(value: str | None, style: str = "") -> Text:
    """Return text from outside as a table cell. Characters that control a terminal are replaced."""
    return Text(printable(value or _NO_VALUE, keep="\n" + MARKS), style=style, overflow="fold")


def status_panel(status: RequestStatus) -> RenderableType:
    """Return the facts and the emails of a request in a box."""
    facts = Table.grid(padding=(0, 2))
    facts.add_row("Status", text(status.status, "bold"))
    facts.add_row("Deadline", text(utc(status.deadline)))
    facts.add_row("Requested", text(utc(status.requested_at)))
    if status.decided_at is not None:
        by = f" by {status.decided_by}" if status.decided_by else ""
        facts.add_row("Decided", text(utc(status.decided_at) + by))
    if status.reason is not None:
        facts.add_row("Reason", text(status.reason))
    for reason in status.needs_attention:
        facts.add_row("Attention", text(reason, "yellow"))
    if status.next_step is not None:
        facts.add_row("Next", text(status.next_step))
    title = text(f"{status.account_name} · {status.account_domain}")
    return Panel(Group(facts, *_emails(status)), title=title, title_align="left", width=80)


def _emails(status: RequestStatus) -> Iterable[RenderableType]:
    if not status.emails:
        return
    table = new_table("Email", "To", "State", "At")
    for email in status.emails:
        state = f"{email.state}: {email.answer}" if email.answer else email.state
        table.add_row(text(email.kind), text(email.recipient), text(state), text(utc(email.at)))
    yield table


def requests_table(requests: Sequence[Listed]) -> RenderableType:
    table = new_table("Domain", "Status", "Deadline", "Requested")
    for each in requests:
        table.add_row(
            text(each.account_domain),
            text(each.status),
            text(_utc(each.deadline)),
            text(_utc(each.requested_at)),
        )
    return table


def report_table(report: Report) -> RenderableType:
    """Return all rows. Those that need attention come last, next to the totals."""
    table = new_table("Row", "Domain", "Result", "Details")
    order = list(Result)
    for outcome in sorted(report.outcomes, key=lambda each: order.index(each.result)):
        for detail in _details(outcome):
            table.add_row(
                str(outcome.row.number),
                text(outcome.row.account_domain),
                text(outcome.result.label),
                text(detail),
            )
    return table


def report_summary(report: Report) -> str:
    """Return the totals of an import, and why it stopped if it did."""
    counts = report.counts()
    totals = ", ".join(f"{counts[result]} {result.label}" for result in Result if counts[result])
    summary = f"{counted(len(report.outcomes), 'row')}: {totals or 'nothing to start'}."
    if report.error is not None:
        summary += f"\nStopped: {report.error}\nRun the command again to continue."
    elif report.limited is not None and report.limited.retry_at is not None:
        summary += (
            f"\nStopped at row {report.limited.row.number}, because a limit is reached.\n"
            f"Run the command again after {utc(report.limited.retry_at)} to continue."
        )
    else:
        return summary
    return f"{summary} Open requests are not started twice."


def _details(outcome: Outcome) -> Sequence[str]:
    errors = [f"{error.field}: {error.message}" for error in outcome.row.errors]
    return errors or [outcome.message or ""]


def new_table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _utc(moment: datetime | None) -> str | None:
    return utc(moment) if moment is not None else None


def show_action(workflow_id: str, result: ActionResult, *, as_json: bool) -> None:
    """Print the result of an action, for people or for programs."""
    if as_json:
        show_json({"workflow_id": workflow_id} | result.model_dump(mode="json"))
    else:
        show(result.message)


# ---- JSON for programs ---------------------------------------------------------------------


def status_json(status: RequestStatus | None) -> Any:
    return status.model_dump(mode="json") if status is not None else None


def listed_json(listed: Listed) -> dict[str, Any]:
    return {
        "workflow_id": listed.workflow_id,
        "request_id": listed.request_id,
        "status": listed.status,
        "account_domain": listed.account_domain,
        "deadline": _rfc3339(listed.deadline),
        "requested_at": _rfc3339(listed.requested_at),
    }


def report_json(report: Report) -> dict[str, Any]:
    counts = report.counts()
    shown: dict[str, Any] = {
        "rows": [
            {
                "row": outcome.row.number,
                "result": outcome.result,
                "account_domain": outcome.row.account_domain,
                "request_id": outcome.request_id,
                "message": outcome.message,
                "fields": fields_json(outcome.row.errors),
            }
            for outcome in report.outcomes
        ],
        "counts": {result: counts[result] for result in Result},
    }
    if report.error is not None:
        kind = ERROR_KINDS[ExitCode.UNAVAILABLE]
        shown["error"] = {"kind": kind, "message": str(report.error), "fields": []}
    elif report.limited is not None:
        kind = ERROR_KINDS[ExitCode.REJECTED]
        shown["error"] = {"kind": kind, "message": report.limited.message, "fields": []}
        shown["retry_at"] = _rfc3339(report.limited.retry_at)
    return shown


def fields_json(errors: Iterable[FieldError]) -> list[dict[str, str]]:
    return [error.model_dump() for error in errors]


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None
