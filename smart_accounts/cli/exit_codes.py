"""The exit codes of the command line, and the errors that lead to each of them."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum

import typer
from pydantic import ValidationError

from smart_accounts.cli.csv_import import Report, Result
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.errors import Rejected, SmartAccountsError, Unavailable, message_of


class ExitCode(IntEnum):
    DONE = 0
    REJECTED = 1
    BAD_INPUT = 2
    UNAVAILABLE = 3
    FAULT = 70
    """A bug in this program. 70 is EX_SOFTWARE in sysexits.h."""


ERROR_KINDS = {
    ExitCode.REJECTED: "refused",
    ExitCode.BAD_INPUT: "bad-input",
    ExitCode.UNAVAILABLE: "unavailable",
    ExitCode.FAULT: "fault",
}
"""The ``kind`` of an error in JSON output. Scripts read these values, so they never change."""


@dataclass(frozen=True)
class Failure:
    """An error as the command line reports it."""

    exit_code: ExitCode
    message: str
    fields: Sequence[FieldError] = ()


def failure_of(error: Exception) -> Failure:
    """Return the exit code and the message for an error that ended a command."""
    match error:
        case ValidationError():
            fields = field_errors(error)
            return Failure(ExitCode.BAD_INPUT, "Bad input. Nothing was sent.", fields)
        case BadInput():
            return Failure(ExitCode.BAD_INPUT, "Bad input. Nothing was changed.", error.errors)
        case typer.TyperException():
            return Failure(ExitCode.BAD_INPUT, error.format_message())
        case SmartAccountsError():
            return Failure(_exit_code(error), message_of(error))
        case _:
            return Failure(ExitCode.FAULT, message_of(error))


def _exit_code(error: SmartAccountsError) -> ExitCode:
    if isinstance(error, Unavailable):
        return ExitCode.UNAVAILABLE
    if isinstance(error, Rejected):
        return ExitCode.REJECTED
    return ExitCode.BAD_INPUT  # a setting or a file


def exit_code_of(report: Report) -> ExitCode:
    """Return the exit code of an import. The most serious result decides."""
    counts = report.counts()
    if report.error is not None:
        return ExitCode.UNAVAILABLE
    if report.limited is not None:
        return ExitCode.REJECTED
    if counts[Result.BAD_INPUT]:
        return ExitCode.BAD_INPUT
    return ExitCode.REJECTED if counts[Result.REJECTED] else ExitCode.DONE
