"""Send the activation emails of many requests again, each with a new link."""

from asyncio import sleep
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Annotated, Any

import typer
from rich.table import Table

from smart_accounts.cli import output
from smart_accounts.cli.arguments import Json
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.cli.exit_codes import ERROR_KINDS, ExitCode
from smart_accounts.cli.operators import operator
from smart_accounts.contract import actions
from smart_accounts.contract.fields import MAX_EMAIL
from smart_accounts.contract.messages import EmailKind
from smart_accounts.errors import NoResponse, NotFound, Rejected, Unavailable
from smart_accounts.settings import load_settings
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.records import OPEN, StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.text import counted, utc

PAUSE = 0.5  # seconds after each email, so that the mail server gets at most two per second
RECENTLY = timedelta(hours=1)
MAX_SILENT = 3
"""The run stops after this many requests in a row without a response. One alone may be stuck."""
PROGRAM = "python -m smart_accounts.admin resend"


class Result(StrEnum):
    RESENT = "resent"
    TO_RESEND = "to-resend"
    SKIPPED = "skipped"
    ENDED = "ended"
    REJECTED = "rejected"
    NO_RESPONSE = "no-response"
    NOT_TRIED = "not-tried"


@dataclass(frozen=True)
class Outcome:
    """What became of one request. ``message`` is for the operator."""

    workflow_id: str
    request: StoredRequest | None
    result: Result
    message: str


class Resending:
    """Resends the activation emails of requests, one after another."""

    def __init__(
        self,
        client: RequestClient,
        store: AccountStore,
        by: actions.Actor,
        on_progress: Callable[[], None],
        *,
        dry_run: bool,
    ) -> None:
        self._client = client
        self._store = store
        self._by = by
        self._on_progress = on_progress
        self._dry_run = dry_run
        self.error: Unavailable | None = None
        """Why the run stopped early, if the service became unreachable."""

    async def run(self, workflow_ids: Sequence[str]) -> list[Outcome]:
        outcomes: list[Outcome] = []
        for workflow_id in workflow_ids:
            try:
                outcomes.append(await self._try(workflow_id))
            except Unavailable as error:
                self.error = error
                break
            self._on_progress()
            last = [outcome.result for outcome in outcomes[-MAX_SILENT:]]
            if last == [Result.NO_RESPONSE] * MAX_SILENT:
                self.error = Unavailable("Several requests did not respond. Does a worker run?")
                break
            if last[-1] in (Result.RESENT, Result.NO_RESPONSE):
                await sleep(PAUSE)
        return outcomes + [
            Outcome(each, None, Result.NOT_TRIED, "") for each in workflow_ids[len(outcomes) :]
        ]

    async def _try(self, workflow_id: str) -> Outcome:
        request = await self._store.listing.newest(workflow_id, owner=None)
        if request is None or request.status not in OPEN:
            message = "The database has no open request for this domain."
            return Outcome(workflow_id, request, Result.ENDED, message)
        if at := await self._resent_at(request):
            message = f"It was sent again at {utc(at)}, within the last hour."
            return Outcome(workflow_id, request, Result.SKIPPED, message)
        if self._dry_run:
            message = f"To {request.customer_email}."
            return Outcome(workflow_id, request, Result.TO_RESEND, message)
        return Outcome(workflow_id, request, *await self._resend(request))

    async def _resend(self, request: StoredRequest) -> tuple[Result, str]:
        try:
            done = await self._client.resend(request.workflow_id, run_id=request.id, by=self._by)
        except NotFound as error:
            return Result.ENDED, str(error)
        except Rejected as error:
            return Result.REJECTED, str(error)
        except NoResponse as error:  # it may still be sent, so it is recorded
            return Result.NO_RESPONSE, f"{error}{await self._record(request)}"
        return Result.RESENT, f"{done.message}{await self._record(request)}"

    async def _resent_at(self, request: StoredRequest) -> datetime | None:
        """Return when the newest link was sent, if it replaced another one within the last hour.

        An email that was returned since does not count.
        """
        if request.link_ordinal == 1:
            return None
        for email, status in await self._store.emails.of_request(request.id):
            is_newest = (email.kind, email.number) == (EmailKind.ACTIVATION, request.link_ordinal)
            if is_newest and not status.answer and status.at > datetime.now(UTC) - RECENTLY:
                return status.at
        return None

    async def _record(self, request: StoredRequest) -> str:
        """Add an event to the audit trail. Returns a warning if the database is down."""
        # The name may be an email address, which is then erased with the person's other data.
        actor = Actor(role=Role.OPERATOR, email=self._by.subject[:MAX_EMAIL])
        origin = Origin(client_address=None, user_agent=PROGRAM)
        try:
            await self._store.audit.record(Action.RESEND, actor, origin, request.id)
        except Unavailable:
            return " The audit trail lacks this, because the database does not respond."
        return ""


@asynchronous
async def resend(
    by: Annotated[
        str, typer.Option(metavar="NAME", help="Who resends the emails. It is only recorded.")
    ],
    query: Annotated[
        str | None,
        typer.Option(metavar="FILTER", help="A list filter of Temporal. Only open requests count."),
    ] = None,
    returned: Annotated[
        bool,
        typer.Option(
            "--returned", help="The requests whose newest activation email came back because of us."
        ),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be sent.")
    ] = False,
    as_json: Json = False,
) -> None:
    """
    Send activation emails again, each with a new link. The previous links no longer work.

    It is safe to run it again: a request whose email was sent again within the last hour is
    skipped, unless the email came back.

    The exit code is 1 if something was rejected, and 3 if the service became unreachable or a
    request did not respond.
    """
    if (query is not None) is returned:
        raise typer.BadParameter("Give either --query or --returned.")
    actor = operator(by)
    client = await RequestClient.connect()
    async with AccountStore.open(load_settings().database_url) as store:
        await store.ping()
        if query is None:
            workflow_ids = await store.emails.find_returned_activations()
        else:
            workflow_ids = [each.workflow_id for each in await client.find_open(query)]
        hidden = as_json or dry_run
        with output.progress_bar(len(workflow_ids), hidden=hidden, label="Sending") as advance:
            resending = Resending(client, store, actor, advance, dry_run=dry_run)
            outcomes = await resending.run(workflow_ids)
    _show(outcomes, resending.error, as_json=as_json)
    raise typer.Exit(_exit_code(outcomes, resending.error))


def _show(outcomes: Sequence[Outcome], error: Unavailable | None, *, as_json: bool) -> None:
    counts = Counter(outcome.result for outcome in outcomes)
    if as_json:
        output.show_json(_json(outcomes, counts, error))
        return
    totals = ", ".join(f"{counts[each]} {_label(each)}" for each in Result if counts[each])
    if not outcomes:
        output.show("No open request matches.")
        return
    output.show(_table(outcomes))
    output.show(f"{counted(len(outcomes), 'request')}: {totals}.")
    if error:
        output.show(f"Stopped: {error}\nRun the command again to continue.")


def _table(outcomes: Sequence[Outcome]) -> Table:
    """Return all requests. Those that need attention come last, next to the totals."""
    order = list(Result)
    table = output.new_table("Request", "Result", "Details")
    for each in sorted(outcomes, key=lambda outcome: order.index(outcome.result)):
        row = (each.workflow_id, _label(each.result), each.message)
        table.add_row(*map(output.text, row))
    return table


def _label(result: Result) -> str:
    return result.replace("-", " ")


def _json(
    outcomes: Sequence[Outcome], counts: Counter[Result], error: Unavailable | None
) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "requests": [
            {
                "workflow_id": each.workflow_id,
                "request_id": each.request.id if each.request else None,
                "result": each.result,
                "message": each.message or None,
            }
            for each in outcomes
        ],
        "counts": {result: counts[result] for result in Result},
    }
    if error:
        kind = ERROR_KINDS[ExitCode.UNAVAILABLE]
        shown["error"] = {"kind": kind, "message": str(error), "fields": []}
    return shown


def _exit_code(outcomes: Sequence[Outcome], error: Unavailable | None) -> ExitCode:
    results = {outcome.result for outcome in outcomes}
    if error or Result.NO_RESPONSE in results:
        return ExitCode.UNAVAILABLE
    return ExitCode.REJECTED if Result.REJECTED in results else ExitCode.DONE
