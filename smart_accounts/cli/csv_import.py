"""Start many requests from one CSV file: read its rows, start each one, report the results."""

import asyncio
import codecs
import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from smart_accounts.contract.field_errors import FieldError, field_errors
from smart_accounts.contract.messages import (
    Requester,
    SmartAccountRequest,
    Status,
    user_entries,
)
from smart_accounts.errors import AlreadyOpen, SmartAccountsError, Unavailable, message_of
from smart_accounts.temporal.client import RequestClient

IN_FLIGHT = 8
WORKER_RESPONDS_WITHIN = 3.0  # seconds; usually a tenth of this

_REQUESTER_PREFIX = "requester_"
_SEPARATOR_LINE = re.compile(r'"?sep=([^\w\s"]|\t)"?[,;\t]*[\r\n]', re.IGNORECASE)
COLUMNS = {
    name: field.is_required()
    for name, field in SmartAccountRequest.model_fields.items()
    if name not in ("requester", "reminders")  # requester_* columns; a list does not fit a cell
} | {_REQUESTER_PREFIX + name: True for name in Requester.model_fields}
"""The columns of a file, and whether each one is required."""


class BadFile(SmartAccountsError):
    """The file is not a table of requests. No request was started."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """One row. Rows are numbered as in spreadsheet programs, so the header is row 1."""

    number: int
    request: SmartAccountRequest | None = None
    errors: tuple[FieldError, ...] = ()

    @property
    def account_domain(self) -> str | None:
        return self.request.account_domain if self.request is not None else None


class Result(StrEnum):
    STARTED = "started"
    ALREADY_OPEN = "already-open"
    REJECTED = "rejected"
    BAD_INPUT = "bad-input"
    UNFINISHED = "unfinished"

    @property
    def label(self) -> str:
        return self.replace("-", " ")


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The result of one row. An ``unfinished`` row was not tried, or Temporal did not respond."""

    row: Row
    result: Result
    request_id: str | None = None
    message: str | None = None
    retry_at: datetime | None = None
    """When to try again, if a limit rejected the request."""


@dataclass(frozen=True, kw_only=True)
class Report:
    outcomes: tuple[Outcome, ...]
    error: Unavailable | None
    """Why the import stopped early, if the service became unreachable."""
    limited: Outcome | None
    """The row at which the import stopped, if a limit was reached."""

    def counts(self) -> Counter[Result]:
        return Counter(outcome.result for outcome in self.outcomes)


def read_rows(file: Path) -> list[Row]:
    """Read a CSV file in UTF-8, or in UTF-16 as Excel's "Unicode Text".

    Cells are separated by commas, semicolons or tabs, or by the character that Excel names in a
    first line such as ``sep=;``.

    Raises:
        BadFile: the file as a whole cannot be read; the message is one line.
    """
    content = file.read_bytes()
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        text = content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        raise BadFile(f"{file.name} is not UTF-8 text. Save it as CSV in UTF-8.") from None
    separator = _SEPARATOR_LINE.match(text)
    delimiter = separator[1] if separator else _delimiter(text)
    # Strict, because otherwise one missing quote silently swallows all the rows below it.
    reader = csv.reader(io.StringIO(text, newline=None), delimiter=delimiter, strict=True)
    try:
        table = list(reader)[1 if separator else 0 :]
    except csv.Error as error:
        raise BadFile(f"{file.name}, line {reader.line_num}: {error}.") from None
    columns = [name.strip().lower() for name in table[0]] if table else []
    while columns and not columns[-1]:  # spreadsheet programs save empty columns too
        columns.pop()
    _check_header(file.name, columns)
    return [
        _row(number, columns, cells)
        for number, cells in enumerate(table[1:], start=2)
        if any(cell.strip() for cell in cells)
    ]


def _delimiter(text: str) -> str:
    header = re.split("[\r\n]", text, maxsplit=1)[0]
    return max(",;\t", key=header.count)


def _check_header(name: str, columns: Sequence[str]) -> None:
    missing = [column for column, required in COLUMNS.items() if required and column not in columns]
    if missing:
        raise BadFile(f"The first row of {name} is missing: {', '.join(missing)}.")
    # Without this check a misspelt optional column would be silently left out of every request.
    if unknown := [column for column in columns if column not in COLUMNS]:
        named = ", ".join(column if column.isidentifier() else "(unnamed)" for column in unknown)
        raise BadFile(f"{name} has unknown columns: {named}. Known: {', '.join(COLUMNS)}.")
    if len(set(columns)) < len(columns):
        raise BadFile(f"{name} has the same column twice.")


def _row(number: int, columns: Sequence[str], cells: Sequence[str]) -> Row:
    if any(cell.strip() for cell in cells[len(columns) :]):
        error = FieldError(field="row", message="has more cells than the first row")
        return Row(number=number, errors=(error,))
    values = {name: cell for name, cell in zip(columns, cells, strict=False) if cell.strip()}
    try:
        return Row(number=number, request=SmartAccountRequest.model_validate(_start_input(values)))
    except ValidationError as error:
        errors = (
            each.model_copy(update={"field": each.field.replace(".", "_")})
            for each in field_errors(error)
        )
        return Row(number=number, errors=tuple(errors))


def _start_input(values: dict[str, str]) -> dict[str, Any]:
    own: dict[str, Any] = {
        name: cell for name, cell in values.items() if not name.startswith(_REQUESTER_PREFIX)
    }
    requester = {
        name.removeprefix(_REQUESTER_PREFIX): cell
        for name, cell in values.items()
        if name.startswith(_REQUESTER_PREFIX)
    }
    own["user_emails"] = user_entries(values.get("user_emails", ""))
    return own | {"requester": requester}


class Import:
    """Starts the request of each row.

    While a worker responds, each row waits for the outcome of the previous row, so that a limit
    rejects only one request. Without a worker there are no outcomes, so the rows do not wait.
    """

    def __init__(self, client: RequestClient, on_progress: Callable[[], None]) -> None:
        self._client = client
        self._on_progress = on_progress
        self._outcomes: dict[int, Outcome] = {}
        self._error: Unavailable | None = None
        self._limited: Outcome | None = None
        self._worker_responds = True

    async def run(self, rows: Sequence[Row]) -> Report:
        """Start all rows. Stop if a limit is reached or if the service is unreachable."""
        running: set[asyncio.Task[None]] = set()
        # Calls in flight run to their end, because a cancelled call may still start a request.
        async with asyncio.TaskGroup() as tasks:
            for row in rows:
                while len(running) >= (1 if self._worker_responds else IN_FLIGHT):
                    done, running = await asyncio.wait(
                        running, timeout=WORKER_RESPONDS_WITHIN, return_when=asyncio.FIRST_COMPLETED
                    )
                    if not done:
                        self._worker_responds = False
                if self._error or self._limited:
                    break
                running.add(tasks.create_task(self._try(row)))
        return Report(
            outcomes=tuple(
                self._outcomes.get(row.number) or Outcome(row=row, result=Result.UNFINISHED)
                for row in rows
            ),
            error=self._error,
            limited=self._limited,
        )

    async def _try(self, row: Row) -> None:
        try:
            outcome = await self._start(row)
        except Unavailable as error:
            self._error = error
            return
        self._outcomes[row.number] = outcome
        if outcome.retry_at:
            self._limited = outcome
        self._on_progress()

    async def _start(self, row: Row) -> Outcome:
        if row.request is None:
            return Outcome(row=row, result=Result.BAD_INPUT)
        started = None
        try:
            started = await self._client.start(row.request)
            status = await self._client.outcome(started)
        except Unavailable:
            raise
        except AlreadyOpen as error:
            return Outcome(row=row, result=Result.ALREADY_OPEN, message=message_of(error))
        except Exception as error:  # noqa: BLE001 - the other rows are reported all the same
            id_ = started.request_id if started is not None else None
            message = message_of(error)
            return Outcome(row=row, result=Result.REJECTED, request_id=id_, message=message)
        self._worker_responds = status is not None
        is_rejected = status is not None and status.status is Status.REJECTED
        return Outcome(
            row=row,
            result=Result.REJECTED if is_rejected else Result.STARTED,
            request_id=started.request_id,
            message=status.reason if status is not None else "No worker has processed it yet.",
            retry_at=status.retry_at if status is not None else None,
        )
