"""Compare the store with Temporal, and repair what differs."""

from typing import Annotated

import typer

from smart_accounts.cli import output
from smart_accounts.cli.arguments import Json
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.cli.exit_codes import ExitCode
from smart_accounts.settings import load_settings
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.differences import Report
from smart_accounts.sweep.sweep import Choice, Sweeper
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.text import counted
from smart_accounts.tokens import LinkTokens


@asynchronous
async def sweep(
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List the differences, and change nothing.")
    ] = False,
    restart_missing: Annotated[
        bool,
        typer.Option(
            "--restart-missing",
            help="Start a workflow for each open request that has none. It keeps its id, its links"
            " and its deadline.",
        ),
    ] = False,
    settle_missing: Annotated[
        bool,
        typer.Option(
            "--settle-missing",
            help="Withdraw each open request that has no workflow. The customers are told.",
        ),
    ] = False,
    as_json: Json = False,
) -> None:
    """Compare the store with Temporal, and repair what differs.

    A worker does this every 15 minutes. Without an option, requests that Temporal does not have
    are withdrawn once they are missing for an hour, unless there are too many.

    Exit code 1 means that an operator must choose --restart-missing or --settle-missing.
    """
    if restart_missing and settle_missing:
        raise typer.BadParameter("Choose --restart-missing or --settle-missing, not both.")
    choice = Choice.RESTART if restart_missing else Choice.WAIT
    choice = Choice.SETTLE if settle_missing else choice
    settings = load_settings()
    client = await connect(data_converter=worker_data_converter(settings))
    async with AccountStore.open(settings.database_url, source=settings.base_url) as store:
        await store.ping()
        tokens = LinkTokens(settings.signing_keys)
        report = await Sweeper(client, store, tokens, choice=choice, dry_run=dry_run).run()
    if as_json:
        output.show_json(_json(report))
    else:
        _show(report, dry_run=dry_run)
    if report.held:
        raise typer.Exit(ExitCode.REJECTED)


def _show(report: Report, *, dry_run: bool) -> None:
    if report.differences:
        table = output.new_table(
            "Difference", "Request or endpoint", "Would be" if dry_run else "Repair"
        )
        for each in report.differences:
            table.add_row(each.kind, each.request_id, each.repair)
        output.show(table)
    requests = counted(report.open_requests, "open request")
    output.show(f"{requests}, {counted(len(report.differences), 'difference')}.")
    if dry_run:
        output.show("Nothing was changed.")
    if report.held:
        output.show(f"{report.held} Choose --restart-missing or --settle-missing.")


def _json(report: Report) -> dict[str, object]:
    return {
        "open_requests": report.open_requests,
        "differences": [
            {"kind": each.kind, "request_id": each.request_id, "repair": each.repair}
            for each in report.differences
        ],
        "held": report.held,
    }
