"""Run a command line: one line for an error, and an exit code for each kind of error."""

import contextlib
import sys

import typer

from smart_accounts.cli import output
from smart_accounts.cli.exit_codes import ExitCode, failure_of
from smart_accounts.contract.domains import allow_free_mail
from smart_accounts.settings import load_client_settings


def run(app: typer.Typer) -> int:
    """Run the command of ``sys.argv`` and return its exit code."""
    output.replace_unknown_characters()
    # Typer reports a usage error before it has parsed the options, so look for --json here.
    as_json = "--json" in sys.argv[1:]
    try:
        allow_free_mail(load_client_settings().free_mail_exceptions)
        return app(standalone_mode=not as_json) or ExitCode.DONE
    except SystemExit as end:
        return int(end.code or 0)
    except Exception as error:  # noqa: BLE001 - people get one line, never a stack trace
        failure = failure_of(error)
    with contextlib.suppress(OSError):  # the output itself may be the failure
        output.show_failure(failure, as_json=as_json)
    return failure.exit_code
