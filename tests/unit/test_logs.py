"""What the log shows of exceptions and ids, as text and as JSON."""

import asyncio
import json
import logging
import socket
import sqlite3
import ssl
from types import SimpleNamespace
from typing import Any

import asyncpg
import pytest
from sqlalchemy.exc import OperationalError
from temporalio import activity, workflow
from temporalio.api.failure.v1 import Failure
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from smart_accounts.contract.names import RESTARTS, WORKFLOW_TYPE
from smart_accounts.errors import Unavailable
from smart_accounts.mail.smtp import RefusedTemporarily
from smart_accounts.temporal.logs import JsonFormatter, LineFormatter, with_cause

ADDRESS, NAME = "ada@acme.example", "Ada Lovelace"


def record_of(error: BaseException | None = None, message: str = "It failed", **extra: Any) -> Any:
    exc_info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("worker", logging.ERROR, __file__, 1, message, (), exc_info)
    record.__dict__ |= extra
    return record


def both(record: logging.LogRecord) -> str:
    """Return the line in each format."""
    as_json = JsonFormatter().format(record)
    assert "\n" not in as_json
    fields = json.loads(as_json)
    return "\n".join([LineFormatter().format(record), *map(str, fields.values())])


def chain_of_failures() -> BaseException:
    """Return an error as the activities may raise it: each part quotes what somebody wrote."""
    cause = RefusedTemporarily(f"451 <{ADDRESS}> is {NAME}")
    cause.__context__ = sqlite3.IntegrityError(f"Key (name)=({NAME}) already exists")
    group = ExceptionGroup(NAME, [ValueError(NAME), KeyError(ADDRESS)])
    group.__cause__ = cause
    return group


@pytest.mark.parametrize(
    "error",
    [
        sqlite3.IntegrityError(f"Key (name)=({NAME}) already exists"),
        RefusedTemporarily(f"451 <{ADDRESS}> is {NAME}"),
        ValueError(NAME),
        chain_of_failures(),
        ApplicationError(NAME, type="IntegrityError"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_texts_of_exceptions_are_hidden(error: BaseException) -> None:
    if isinstance(error, ApplicationError):
        error._failure = Failure(message=NAME)  # it came through Temporal
    error.__cause__ = error.__cause__ or KeyError(NAME)
    shown = both(record_of(error))
    assert NAME not in shown
    assert ADDRESS not in shown
    assert type(error).__name__ in shown
    assert "Traceback (most recent call last):" in shown
    assert "KeyError" in shown


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (Unavailable("The database does not respond."), "The database does not respond."),
        (ConnectionRefusedError(111, "Connection refused"), "Connection refused"),
        (AttributeError("'Row' object has no attribute 'at'"), "no attribute 'at'"),
        (ApplicationError("The mail server takes no emails", type="x"), "takes no emails"),
    ],
)
def test_harmless_texts_are_shown(error: BaseException, text: str) -> None:
    assert both(record_of(error)).count(text) == 2


@pytest.mark.parametrize(
    ("cause", "shown"),
    [
        (asyncpg.InvalidPasswordError(f'of "{NAME}"'), "InvalidPasswordError 28P01"),
        (asyncpg.InternalClientError(NAME), "InternalClientError"),
        (RefusedTemporarily(f"451 {NAME}"), "RefusedTemporarily"),
        (TimeoutError(), "TimeoutError"),
        (ConnectionRefusedError(111, "Refused"), "ConnectionRefusedError: [Errno 111] Refused"),
        (socket.gaierror(-2, "Name not known"), "gaierror: [Errno -2] Name not known"),
        (ssl.SSLError(1, "wrong version"), "SSLError: wrong version"),
        (sqlite3.OperationalError("disk is full"), "OperationalError: disk is full"),
        (RuntimeError("Failed connect:\n dns error."), "RuntimeError: Failed connect: dns error"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_cause_of_an_outage_is_shown(cause: Exception, shown: str) -> None:
    cause.__cause__ = asyncio.CancelledError()  # as in every TimeoutError
    error = Unavailable("The database does not respond.")
    error.__cause__ = OperationalError(NAME, None, cause)
    error.__cause__.__cause__ = cause
    assert with_cause(error) == f"The database does not respond. Cause: {shown}."
    assert with_cause(Unavailable("No worker.")) == "No worker."


@pytest.mark.parametrize(
    "text",
    [
        f"to <{ADDRESS}>",
        f'{{"email": "{ADDRESS}"}}',
        "MAIL FROM:ädä@bücher.example",
        f"x={ADDRESS}",
        "a" * 100_000 + "@" + "b" * 100_000,
        f"task=<Task exception=IntegrityError('{ADDRESS}')>",
    ],
)
def test_addresses_are_hidden_in_every_text(text: str) -> None:
    shown = both(record_of(Unavailable(text), text))
    assert "@" not in shown
    assert "(address)" in shown


def test_json_line_has_the_ids_of_an_activity() -> None:
    environment = ActivityEnvironment()
    info = environment.info

    def format_line() -> str:
        assert activity.in_activity()
        return JsonFormatter().format(record_of(request_id="first-run"))

    fields = json.loads(environment.run(format_line))
    assert fields.pop("time").endswith("Z")
    assert fields == {
        "level": "error",
        "logger": "worker",
        "message": "It failed",
        "request_id": "first-run",
        "workflow_id": info.workflow_id,
        "run_id": info.workflow_run_id,
        "workflow_type": info.workflow_type,
        "activity_type": info.activity_type,
        "attempt": 1,
    }


@pytest.mark.parametrize(
    ("memo", "request_id"),
    [("first", "first"), (None, "second"), (7, "second"), ("a\nb", "second"), ("x" * 65, "second")],
)
def test_restarted_run_logs_the_id_of_its_request(
    monkeypatch: pytest.MonkeyPatch, memo: object, request_id: str
) -> None:
    """Any client can set the memo to anything."""
    info = SimpleNamespace(
        workflow_type=WORKFLOW_TYPE,
        first_execution_run_id="second",
        _logger_details=lambda: {"run_id": "second"},
    )
    monkeypatch.setattr(workflow, "in_workflow", lambda: True)
    monkeypatch.setattr(workflow, "info", lambda: info)
    monkeypatch.setattr(workflow, "memo_value", lambda name, _: {RESTARTS: memo}[name])
    fields = json.loads(JsonFormatter().format(record_of()))
    assert (fields["request_id"], fields["run_id"]) == (request_id, "second")


def test_lines_of_the_sdk_show_ids_but_quote_no_failure() -> None:
    task = SimpleNamespace(
        target="temporalio_sdk_core::worker",
        fields={"run_id": "run-1", "failure": f"Failure {{ message: {NAME} }}", "error": NAME},
    )
    shown = both(record_of(message="Failing workflow task", temporal_log=task))
    assert "run-1" in shown
    assert NAME not in shown
    call = SimpleNamespace(target="temporalio_client::retry", fields={"error": "refused"})
    assert "call failed: refused" in both(record_of(message="call failed", temporal_log=call))
