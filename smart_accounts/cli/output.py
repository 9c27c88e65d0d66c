"""What the command-line client shows: panels and tables for people, plain values for JSON."""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any

from rich import box
from rich.console import Console, Group, RenderableType
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from smart_accounts.cli.csv_import import Outcome, Report, Result
from smart_accounts.contract.field_errors import FieldError
from smart_accounts.contract.messages import RequestStatus
from smart_accounts.temporal.client import Listed
from smart_accounts.text import utc

_NO_VALUE = "-"


def show(*what: RenderableType) -> None:
    """Print for people. Strings are shown as they are: no markup, no colours for numbers."""
    console = Console(markup=False, highlight=False, emoji=False)
    for each in what:
        console.print(each, soft_wrap=isinstance(each, str))


def show_json(value: Any) -> None:
    print(json.dumps(value, indent=2))  # noqa: T201, the one place that prints JSON


def text(value: str | None, style: str = "") -> Text:
    """A value that others wrote: what could steer the terminal is shown as a replacement mark."""
    shown = "".join(c if c.isprintable() or c == "\n" else "\ufffd" for c in value or _NO_VALUE)
    return Text(shown, style=style, overflow="fold")


def status_panel(status: RequestStatus) -> RenderableType:
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
    table = _table("Mail", "To", "State", "At")
    for email in status.emails:
        state = f"{email.state}: {email.answer}" if email.answer else email.state
        table.add_row(text(email.kind), text(email.recipient), text(state), text(utc(email.at)))
    yield table


def requests_table(requests: Sequence[Listed]) -> RenderableType:
    table = _table("Domain", "Status", "Deadline", "Requested")
    for each in requests:
        table.add_row(
            text(each.account_domain),
            text(each.status),
            text(_utc(each.deadline)),
            text(_utc(each.requested_at)),
        )
    return table


def report_table(report: Report) -> RenderableType:
    """Every row; those that need a hand come last, right above the counts."""
    table = _table("Row", "Domain", "Result", "Why")
    order = list(Result)
    for outcome in sorted(report.outcomes, key=lambda each: order.index(each.result)):
        for why in _why(outcome):
            table.add_row(
                str(outcome.row.number),
                text(outcome.row.account_domain),
                text(outcome.result.words),
                text(why),
            )
    return table


def report_line(report: Report) -> str:
    counts = report.counts()
    line = ", ".join(f"{counts[result]} {result.words}" for result in Result if counts[result])
    line = f"{len(report.outcomes)} rows: {line or 'nothing to start'}."
    if report.fault is not None:
        line += f"\nStopped: {report.fault}\nRun it again to go on; open requests are left alone."
    return line


def _why(outcome: Outcome) -> Sequence[str]:
    errors = [f"{error.field}: {error.message}" for error in outcome.row.errors]
    return errors or [outcome.message or ""]


def _table(*columns: str) -> Table:
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def _utc(moment: datetime | None) -> str | None:
    return utc(moment) if moment is not None else None


# ---- the same for programs -----------------------------------------------------------------


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
    if report.fault is not None:
        shown["error"] = {"kind": "unavailable", "message": str(report.fault), "fields": []}
    return shown


def fields_json(errors: Iterable[FieldError]) -> list[dict[str, str]]:
    return [error.model_dump() for error in errors]


def _rfc3339(moment: datetime | None) -> str | None:
    return moment.isoformat().replace("+00:00", "Z") if moment is not None else None
