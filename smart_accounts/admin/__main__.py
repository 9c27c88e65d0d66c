"""The operator's commands. They need the settings of a worker, and Temporal and the database."""

import logging

import typer
from temporalio.runtime import Runtime, TelemetryConfig

from smart_accounts.admin import deploy
from smart_accounts.admin.erase import erase
from smart_accounts.admin.resend import resend
from smart_accounts.admin.rotate_check import rotate_check
from smart_accounts.admin.sweep import sweep
from smart_accounts.cli.arguments import Version
from smart_accounts.cli.run import run
from smart_accounts.temporal.process_exit import exit_process

app = typer.Typer(
    help="Deploy, repair, erase, send emails again, and check keys.\n\n"
    "The commands need the settings of a worker: TEMPORAL_ and SMART_ACCOUNTS_ variables.\n\n"
    "Exit codes: 0 done, 1 rejected by the service, 2 bad input, 3 service unreachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # the only mode that joins the lines of a paragraph
)


@app.callback()
def admin(version: Version = False) -> None:
    """Take the options that stand before the name of a command."""


app.command()(deploy.deploy)
app.command()(erase)
app.command()(resend)
app.command()(rotate_check)
app.command()(sweep)


if __name__ == "__main__":
    # A replay that fails is reported in one line. The SDK would log stack traces and quote inputs.
    Runtime.set_default(Runtime(telemetry=TelemetryConfig(logging=None)))
    logging.getLogger("temporalio").setLevel(logging.CRITICAL)
    exit_process(run(app))
