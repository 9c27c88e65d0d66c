"""What an import reports about rows that end in an unusual way."""

import asyncio
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

import pytest

import starter
from smart_accounts.cli.csv_import import COLUMNS, Import, Report, Result, Row
from smart_accounts.cli.exit_codes import ExitCode, exit_code_of
from smart_accounts.contract.messages import RequestStatus, SmartAccountRequest, Status
from smart_accounts.errors import NotFound
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.errors import domain_taken
from smart_accounts.temporal.records import Started


class RaisesErrors(RequestClient):
    """Raises an error at the start of a domain, or when its outcome is read."""

    def __init__(
        self,
        at_start: Mapping[str, Exception] | None = None,
        at_outcome: Mapping[str, Exception] | None = None,
    ) -> None:
        self._at_start = at_start or {}
        self._at_outcome = at_outcome or {}

    async def start(self, request: SmartAccountRequest, **_: object) -> Started:
        if error := self._at_start.get(request.account_domain):
            raise error
        return Started(request.account_domain, f"id of {request.account_domain}", datetime.now(UTC))

    async def outcome(self, started: Started) -> RequestStatus | None:
        if error := self._at_outcome.get(started.workflow_id):
            raise error
        return None


async def imported(client: RequestClient, *domains: str) -> Report:
    requester = {"email": "pat@partner.example", "name": "Pat Lee", "company": "Partner Ltd"}
    rows = []
    for number, domain in enumerate(domains, start=2):
        given = {"account_name": "Acme", "customer_email": f"ada@{domain}", "requester": requester}
        rows.append(Row(number=number, request=SmartAccountRequest.model_validate(given)))
    return await Import(client, lambda: None).run(rows)


async def test_row_whose_last_request_is_being_closed_is_rejected() -> None:
    taken = {
        "open.example": domain_taken("open.example", Status.PENDING),
        "closing.example": domain_taken("closing.example", Status.DECLINED),
    }
    report = await imported(RaisesErrors(at_start=taken), "open.example")
    assert [each.result for each in report.outcomes] == [Result.ALREADY_OPEN]
    assert exit_code_of(report) is ExitCode.DONE

    report = await imported(RaisesErrors(at_start=taken), *taken)
    assert [each.result for each in report.outcomes] == [Result.ALREADY_OPEN, Result.REJECTED]
    assert exit_code_of(report) is ExitCode.REJECTED
    assert "Try again in at most 60 minutes." in str(report.outcomes[1].message)


async def test_unexpected_error_of_one_row_leaves_the_other_rows_in_the_report() -> None:
    client = RaisesErrors(
        at_start={"bug.example": KeyError("memo")},
        at_outcome={
            "deleted.example": NotFound("There is no open request with this id."),
            "unreadable.example": ValueError("no status"),
        },
    )
    domains = ("a.example", "bug.example", "deleted.example", "unreadable.example", "b.example")
    report = await imported(client, *domains)
    assert exit_code_of(report) is ExitCode.REJECTED
    assert [(each.result, each.request_id, each.message) for each in report.outcomes] == [
        ("started", "id of a.example", "No worker has processed it yet."),
        ("rejected", None, "Unexpected error: KeyError: 'memo'"),
        ("rejected", "id of deleted.example", "There is no open request with this id."),
        ("rejected", "id of unreadable.example", "Unexpected error: ValueError: no status"),
        ("started", "id of b.example", "No worker has processed it yet."),
    ]


async def test_import_that_is_interrupted_says_how_to_continue(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Ctrl-C cancels the task of the command."""
    columns = [name for name, is_required in COLUMNS.items() if is_required]
    cells = {name: "ada@acme.example" if "email" in name else "Acme" for name in columns}
    file = tmp_path / "requests.csv"
    file.write_text(f"{','.join(columns)}\n{','.join(cells.values())}\n")

    async def interrupted(*_: object) -> None:
        raise asyncio.CancelledError

    async def connect() -> RequestClient:
        return RaisesErrors()

    monkeypatch.setattr(RequestClient, "connect", connect)
    monkeypatch.setattr(Import, "run", interrupted)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.to_thread(starter.import_file, file=file)
    shown = capsys.readouterr()
    assert (shown.out, shown.err) == ("", "Stopped. Run the command again to continue.\n")
