"""A list of requests as a CSV file for spreadsheet programs."""

import csv
import io
import logging
import re
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import datetime

from fastapi.responses import StreamingResponse
from starlette.types import Send

from smart_accounts.contract.characters import JOINERS, MARKS
from smart_accounts.errors import Unavailable
from smart_accounts.store.listing import Listed
from smart_accounts.temporal.logs import with_cause
from smart_accounts.web.requests.labels import EMAIL_LABELS, STATUS_LABELS, delivery_of
from smart_accounts.web.requests.templating import request_path

BOM = "\ufeff"  # without it, Excel reads the file in the code page of the machine

# Spreadsheet programs run a cell that begins with one of these characters, or with their
# full-width forms, as a formula. Where the decimal separator is a comma, Excel splits a CSV file
# at semicolons, so a formula may also begin after a semicolon.
_FORMULA = re.compile(rf'(^|;)(?=[\s"{JOINERS}{MARKS}]*[=+\-@\uff1d\uff0b\uff0d\uff20])')

_log = logging.getLogger(__name__)

Columns = dict[str, Callable[[Listed], str | datetime | None]]

_COLUMNS: Columns = {
    "Account name": lambda each: each.request.account_name,
    "Account domain": lambda each: each.request.account_domain,
    "Customer": lambda each: each.request.customer_email,
    "Added users": lambda each: "; ".join(each.request.added_users),
    "Status": lambda each: STATUS_LABELS[each.request.current_status],
    "Needs attention": lambda each: " ".join(each.request.needs_attention),
    "Requested": lambda each: each.request.requested_at,
    "Deadline": lambda each: each.request.deadline,
    "Decided": lambda each: each.request.decided_at,
    "Reason": lambda each: each.request.reason,
    "Account closed": lambda each: each.request.closed_at,
    "Reason for closing": lambda each: each.request.close_reason,
    "Last email": lambda each: EMAIL_LABELS[each.last_email.kind] if each.last_email else None,
    "Last email's status": lambda each: delivery_of(each.last_email) if each.last_email else None,
    "Last email's time": lambda each: each.last_email.at if each.last_email else None,
}
_OPERATORS_COLUMNS: Columns = {
    "Requester": lambda each: each.request.requester_name,
    "Requester's email": lambda each: each.request.requester_email,
    "Requester's company": lambda each: each.request.requester_company,
    "Reported": lambda each: "yes" if each.request.is_reported else None,
    "Contested": lambda each: each.request.contested_at,
}


class CsvFile(StreamingResponse):
    """A response that a browser saves as a file."""

    media_type = "text/csv"

    def __init__(self, text: AsyncIterator[str]) -> None:
        headers = {"Content-Disposition": 'attachment; filename="smart-account-requests.csv"'}
        super().__init__(text, headers=headers)

    async def stream_response(self, send: Send) -> None:
        try:
            await super().stream_response(send)
        except Unavailable as error:
            # The response has begun, so it cannot become an error page. Its end is missing now,
            # so the browser says that the download failed.
            _log.warning("a download of a list was cut off: %s", with_cause(error))


async def csv_text(
    first: Iterable[Listed],
    others: AsyncIterator[Iterable[Listed]],
    base_url: str,
    *,
    for_operator: bool,
) -> AsyncIterator[str]:
    """Yield the text of the file: the header with the batch ``first``, then each other batch.

    Operators also see whose requests these are.
    """
    columns = _COLUMNS | (_OPERATORS_COLUMNS if for_operator else {})
    columns["Page"] = lambda each: base_url + request_path(each.request)

    def lines(batch: Iterable[Listed]) -> list[list[str]]:
        return [[_cell(value(each)) for value in columns.values()] for each in batch]

    yield BOM + _csv([list(columns), *lines(first)])
    async for batch in others:
        yield _csv(lines(batch))


def _cell(value: str | datetime | None) -> str:
    """Return the value on one line, in a form that no spreadsheet program runs as a formula."""
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%dT%H:%M:%SZ}"
    return _FORMULA.sub(r"\1'", " ".join((value or "").split()))


def _csv(lines: Iterable[Iterable[str]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(lines)
    return text.getvalue()
