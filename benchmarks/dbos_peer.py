"""The same service with DBOS instead of Temporal, on PostgreSQL.

Usage: ``python -m benchmarks.dbos_peer SOCKET``, with the settings of a worker

The store, the emails and the mail server are those of the product, because each step calls the
product's activity. Each connection to the socket is one request: its JSON as a line, then the
reply ``pending`` and its id; a line from the customer, then the reply with the final status.

``docs/decisions/0023-benchmarks.md`` says what this service does not do.
"""

import asyncio
import signal
import sys
from asyncio import StreamReader, StreamWriter
from collections import defaultdict
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from dbos import DBOS, DBOSConfig, SetWorkflowID, WorkflowHandleAsync
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.delivery import Delivery
from activities.emails import EmailActivities
from smart_accounts.contract.closing_emails import closing_emails
from smart_accounts.contract.messages import EmailState, SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Checked,
    Decision,
    Email,
    EmailOutcome,
    OpenRequest,
    RecordDecision,
    SendEmails,
)
from smart_accounts.mail.compose import Composer, Site
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.settings import Settings, load_settings
from smart_accounts.store.limits import Limits
from smart_accounts.store.migrate import migrate
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from workflows.emails import opening_emails, reminders

TRIES = 100_000  # so many that no outage uses them up
ANSWER = "answer"

# The activities ask Temporal whether they were cancelled, and count what they do.
in_activity = ActivityEnvironment()
pending: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
"""Set for each request once its first emails have been tried."""


class Effects:
    """The activities, which the steps call. ``main`` sets them."""

    accounts: AccountActivities
    emails: EmailActivities


@DBOS.step(retries_allowed=True, max_attempts=TRIES)
async def open_request(new: OpenRequest) -> Checked:
    return await in_activity.run(Effects.accounts.open_request, new)


@DBOS.step()
async def try_emails(batch: SendEmails) -> list[EmailOutcome]:
    return await in_activity.run(Effects.emails.try_emails, batch)


@DBOS.step(retries_allowed=True, max_attempts=TRIES)
async def send_emails(batch: SendEmails) -> list[EmailOutcome]:
    return await in_activity.run(Effects.emails.send_emails, batch)


@DBOS.step(retries_allowed=True, max_attempts=TRIES)
async def record_decision(record: RecordDecision) -> Decision:
    is_active = record.decision.status is Status.ACTIVE
    step = Effects.accounts.activate_account if is_active else Effects.accounts.close_request
    return await in_activity.run(step, record)


@DBOS.workflow()
async def send_rest(batch: SendEmails) -> None:
    """Send what the first try could not send, for as long as it takes."""
    while batch.emails:
        outcomes = await send_emails(batch)
        batch = batch.model_copy(update={"emails": _unsent(batch, outcomes)})


@DBOS.workflow()
async def smart_account_request(request: SmartAccountRequest, requested_at: datetime) -> Status:
    id_ = DBOS.workflow_id
    assert id_
    deadline = requested_at + request.acceptance_window
    checked = await open_request(
        OpenRequest(request_id=id_, request=request, requested_at=requested_at, deadline=deadline)
    )
    if not checked.refused:
        await _send(id_, opening_emails())
    pending[id_].set()
    if checked.refused:
        decision = Decision(status=Status.REJECTED, at=requested_at, reason=checked.refused)
    else:
        decision = await _decide(id_, request, requested_at)
        record = RecordDecision(request_id=id_, decision=decision, request=request)
        decision = await record_decision(record)
    addresses = StoredRequest.new(id_, request, requested_at, status=decision.status)
    was_asked = not checked.refused
    emails = closing_emails(decision.status, addresses, customer_was_asked=was_asked)
    if rest := await _send(id_, emails):
        await rest.get_result()  # the request ends with its last email, as in the product
    return decision.status


async def _decide(id_: str, request: SmartAccountRequest, requested_at: datetime) -> Decision:
    """Wait for the customer until the deadline, and send the reminders meanwhile."""
    for offset, emails in [*reminders(request), (request.acceptance_window, ())]:
        # DBOS records when a wait ends, and ignores a new duration when it repeats the wait.
        remaining = requested_at + offset - datetime.now(UTC)
        by = await DBOS.recv_async(ANSWER, max(remaining / timedelta(seconds=1), 0))
        if by:
            return Decision(status=Status.ACTIVE, at=datetime.now(UTC), by=by)
        await _send(id_, emails)
    return Decision(status=Status.LAPSED, at=requested_at + request.acceptance_window)


async def _send(id_: str, emails: tuple[Email, ...]) -> WorkflowHandleAsync[None] | None:
    """Try to send emails. Returns the workflow that sends the rest, if there is a rest."""
    if not emails:
        return None
    batch = SendEmails(request_id=id_, emails=emails)
    if unsent := _unsent(batch, await try_emails(batch)):
        # A workflow of its own, so that the customer's answer does not wait for the mail server.
        rest = batch.model_copy(update={"emails": unsent})
        return await DBOS.start_workflow_async(send_rest, rest)
    return None


def _unsent(batch: SendEmails, outcomes: list[EmailOutcome]) -> tuple[Email, ...]:
    return tuple(
        email
        for email, outcome in zip(batch.emails, outcomes, strict=True)
        if outcome.state is EmailState.QUEUED
    )


async def converse(reader: StreamReader, writer: StreamWriter) -> None:
    request = SmartAccountRequest.model_validate_json(await reader.readline())
    id_ = str(uuid4())
    with SetWorkflowID(id_):
        handle = await DBOS.start_workflow_async(smart_account_request, request, datetime.now(UTC))
    await pending[id_].wait()
    del pending[id_]
    writer.write(f"pending {id_}\n".encode())
    customer = (await reader.readline()).decode().strip()
    await DBOS.send_async(id_, customer, ANSWER)
    writer.write((await handle.get_result()).encode() + b"\n")
    await writer.drain()
    writer.close()


async def main(socket: str) -> None:
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    settings = load_settings()
    database = settings.database_url.replace("+asyncpg", "")
    DBOS(config=DBOSConfig(name="peer", system_database_url=database, log_level="WARNING"))
    await migrate(settings.database_url)
    async with AccountStore.open(settings.database_url, settings.database_pool_size) as store:
        set_effects(store, settings)
        DBOS.launch()
        async with await asyncio.start_unix_server(converse, socket):
            print("worker ready", flush=True)
            await stop.wait()
        DBOS.destroy()


def set_effects(store: AccountStore, settings: Settings) -> None:
    site = Site(
        base_url=settings.base_url,
        organisation_name=settings.organisation_name,
        support_url=None,
        mail_from=settings.mail_from,
    )
    sender = SmtpSender(
        hostname=settings.smtp_hostname,
        port=settings.smtp_port,
        username=None,
        password=None,
        tls=settings.smtp_tls,
    )
    limits, tokens = Limits.of(settings), LinkTokens(settings.signing_keys)
    delivery = Delivery(store, Composer(site), sender, tokens, settings.base_url, None, limits)
    Effects.accounts = AccountActivities(store, limits)
    Effects.emails = EmailActivities(delivery)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
