"""The operator's commands. They need the settings of a worker, and Temporal and the database."""

import typer

from smart_accounts.admin.rotate_check import rotate_check
from smart_accounts.cli.run import run
from smart_accounts.temporal.process_exit import exit_process

app = typer.Typer(
    help="Deploy, compare and repair, erase, and send again.\n\n"
    "The commands need the settings of a worker: TEMPORAL_ and SMART_ACCOUNTS_ variables.\n\n"
    "Exit codes: 0 done, 1 rejected by the service, 2 bad input, 3 service unreachable.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",  # the only mode that joins the lines of a paragraph
)


@app.callback()
def admin() -> None:
    """Let Typer expect the name of a command, even while there is only one."""


app.command()(rotate_check)


if __name__ == "__main__":
    exit_process(run(app))
