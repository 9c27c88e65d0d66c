"""The log of worker and web: one line of text or JSON per event, without personal data."""

import json
import logging
import re
import sqlite3
import traceback
from collections.abc import Iterator, Mapping
from contextlib import suppress
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import TextIO

from temporalio import activity, workflow
from temporalio.exceptions import FailureError
from temporalio.service import RPCError

from smart_accounts.contract.names import RESTARTS, WORKFLOW_TYPE
from smart_accounts.errors import BadSetting, Unavailable
from smart_accounts.settings import LogFormat
from smart_accounts.temporal.memo import memo_text

_WORD = r"[^\s@<>()\[\]{},;:'\"\\/=]"
_ADDRESS = re.compile(rf"(?<!{_WORD}){_WORD}++@{_WORD}++")  # reads each character once
# Errors whose text names code, a server or a setting, but never a value that somebody wrote.
_HARMLESS = (
    AttributeError,
    ImportError,
    NameError,
    RPCError,
    workflow.NondeterminismError,
    BadSetting,
    Unavailable,
)
_OF_PYTHON = ("builtins", "socket", "ssl")
_IDS = ("request_id", "workflow_id", "run_id", "workflow_type", "activity_type", "attempt")

request_id_of_activity: ContextVar[str | None] = ContextVar("request_id", default=None)
"""The request that the running activity is about. Its run id changes with a reset."""


class LineFormatter(logging.Formatter):
    """Text. Email addresses and the texts of most exceptions are left out."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(message)s")

    def format(self, record: logging.LogRecord) -> str:
        return _without_addresses(super().format(record))

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - its name in logging
        ids = _ids(record) if hasattr(record, "temporal_log") else {}  # others have them in words
        record.message = _message(record) + (f" ({ids})" if ids else "")
        return super().formatMessage(record)

    def formatException(  # noqa: N802 - its name in logging
        self,
        ei: tuple[type[BaseException], BaseException, TracebackType | None]
        | tuple[None, None, None],
    ) -> str:
        return "\n".join(_traceback(ei[1])) if ei[1] else ""


class JsonFormatter(LineFormatter):
    """One JSON object, with the ids of the request and of the workflow's run."""

    def format(self, record: logging.LogRecord) -> str:
        at = datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds")
        line = {
            "time": at.replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": _without_addresses(_message(record)),
            **_ids(record),
        }
        if record.exc_info:
            line["exception"] = _without_addresses(self.formatException(record.exc_info))
        return json.dumps(line)


def set_up_logging(log_format: LogFormat, stream: TextIO, level: int = logging.WARNING) -> None:
    """Write the log of this process to a stream."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter() if log_format is LogFormat.JSON else LineFormatter())
    logging.basicConfig(handlers=[handler], level=level)
    if log_format is LogFormat.JSON:  # the ids have fields of their own
        activity.logger.activity_info_on_message = False
        workflow.logger.workflow_info_on_message = False


def with_cause(error: Unavailable) -> str:
    """Return the text of an error, and for the log why Temporal or the database cannot be used."""
    cause: BaseException = error
    while isinstance(cause.__cause__, Exception):
        cause = cause.__cause__
    if cause is error:
        return str(error)
    code = getattr(cause, "sqlstate", None) or getattr(cause, "sqlite_errorname", None)
    name = type(cause).__name__ + (f" {code}" if code else "")
    # A RuntimeError is the SDK's. PostgreSQL's texts may quote what somebody wrote.
    is_harmless = _is_harmless(cause) or isinstance(cause, RuntimeError | sqlite3.OperationalError)
    text = " ".join(str(cause).split()) if is_harmless else ""
    return f"{error} Cause: {name}{': ' if text else ''}{text.removesuffix('.')}."


def _without_addresses(text: str) -> str:
    return _ADDRESS.sub("(address)", text)


def _message(record: logging.LogRecord) -> str:
    """Return the message, and why a call to Temporal failed.

    The other fields of the SDK's own lines are left out, because they quote failures.
    """
    log = record.__dict__.get("temporal_log")
    if log and log.target.startswith("temporalio_client") and (error := log.fields.get("error")):
        return f"{record.getMessage()}: {error}"
    return record.getMessage()


def _ids(record: logging.LogRecord) -> dict[str, object]:
    """Return the ids that are known: from the line itself, or from what runs at the moment."""
    given = record.__dict__
    found: dict[str, object] = {"request_id": request_id_of_activity.get()}
    if workflow.in_workflow():
        info = workflow.info()
        found |= info._logger_details()  # noqa: SLF001 - what Temporal's own logger adds
        if info.workflow_type == WORKFLOW_TYPE:
            found["request_id"] = _restarted() or info.first_execution_run_id
    elif activity.in_activity():
        found |= activity.info()._logger_details()  # noqa: SLF001 - as above
    for source in ("temporal_workflow", "temporal_activity"):
        if isinstance(details := given.get(source), Mapping):
            found |= details
    if log := given.get("temporal_log"):
        found |= log.fields
    if "workflow_run_id" in found:
        found["run_id"] = found["workflow_run_id"]
    if "request_id" in given:
        found["request_id"] = given["request_id"]
    return {name: found[name] for name in _IDS if found.get(name) is not None}


def _restarted() -> str | None:
    """Return the request that this run restarts. Any client can set the memo to anything."""
    with suppress(ValueError, TypeError, KeyError, RuntimeError):
        return memo_text(workflow.memo_value(RESTARTS, None))
    return None


def _traceback(error: BaseException, seen: frozenset[int] = frozenset()) -> Iterator[str]:
    """Yield the lines of a traceback, oldest exception first.

    The text of an exception may quote what somebody wrote: a mail server's reply, a row of the
    database, a field. Only the texts of some types are shown.
    """
    earlier = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if earlier and id(earlier) not in seen:
        yield from _traceback(earlier, seen | {id(error)})
        yield "which led to:"
    yield "Traceback (most recent call last):"
    yield from "".join(traceback.format_tb(error.__traceback__)).splitlines()
    name = f"{type(error).__module__}.{type(error).__qualname__}".removeprefix("builtins.")
    yield f"{name}: {error}" if _is_harmless(error) else name
    if isinstance(error, BaseExceptionGroup):
        for each in error.exceptions:
            yield from _traceback(each, seen | {id(error)})


def _is_harmless(error: BaseException) -> bool:
    if isinstance(error, FailureError):
        return error.failure is None  # otherwise another exception's text came through Temporal
    # Not those of mail servers, which are OSErrors too.
    is_system_error = isinstance(error, OSError) and type(error).__module__ in _OF_PYTHON
    return is_system_error or isinstance(error, _HARMLESS)
