"""``make demo``: run a whole stack on free ports. One request is accepted, one lapses."""

import asyncio
import contextlib
import json
import os
import re
import tempfile
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import urlsplit

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    Requester,
    RequestStatus,
    SmartAccountRequest,
    Status,
)
from smart_accounts.errors import NoResponse, SmartAccountsError
from smart_accounts.local.configuration import StackConfiguration, configure, free_ports
from smart_accounts.local.http_client import request
from smart_accounts.local.stack import supervise
from smart_accounts.local.timeline import timeline
from smart_accounts.settings import PREFIX
from smart_accounts.temporal.client import RequestClient

Result = TypeVar("Result")
_Emails = set[tuple[str, str]]
"""Kind and recipient of each email."""

ACCEPTANCE_WINDOW = timedelta(seconds=5)
TIMEOUT = timedelta(seconds=20)
POLL_SECONDS = 0.05

_ACCEPTED = SmartAccountRequest(
    account_name="Harbour Logistics",
    account_domain="harbour.example",
    customer_email="ada@harbour.example",
    note_to_customer="As agreed on the phone.",
    user_emails=("bo@harbour.example",),
    note_to_added_users="Welcome aboard.",
    requester=Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd"),
)
_EMAILS_BEFORE_ACCEPTING: _Emails = {
    (EmailKind.ACTIVATION, "ada@harbour.example"),
    (EmailKind.REQUEST_RECEIVED, "pat@partner.example"),
}
_EMAILS_WHEN_ACCEPTED: _Emails = _EMAILS_BEFORE_ACCEPTING | {
    (EmailKind.ACTIVATED, "pat@partner.example"),
    (EmailKind.WELCOME, "ada@harbour.example"),
    (EmailKind.ACCESS_GRANTED, "bo@harbour.example"),
}
_LAPSING = SmartAccountRequest(
    account_name="Meadow Farms",
    account_domain="meadow.example",
    customer_email="eve@meadow.example",
    requester=Requester(email="kim@reseller.example", name="Kim Roy", company="Reseller GmbH"),
    acceptance_window=ACCEPTANCE_WINDOW,
)
_EMAILS_WHEN_LAPSED: _Emails = {
    (EmailKind.ACTIVATION, "eve@meadow.example"),
    (EmailKind.REQUEST_RECEIVED, "kim@reseller.example"),
    (EmailKind.LAPSED, "eve@meadow.example"),
    (EmailKind.LAPSED, "kim@reseller.example"),
}


async def demo() -> None:
    """Run the demo.

    Raises:
        SmartAccountsError: the demo failed, for the reason in the message.
    """
    # The demo uses only its own parts, so ignore any real servers in the environment.
    for name in [name for name in os.environ if name.startswith(("TEMPORAL_", PREFIX))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="smart-accounts-demo-") as home:
        ports = {name: str(port) for name, port in free_ports().items()}
        stack = configure(Path(home), os.environ | ports)
        # RequestClient reads the address of Temporal from the environment, as the worker does.
        os.environ.update({k: v for k, v in stack.environment.items() if k.startswith("TEMPORAL_")})
        _print("Starting Temporal, a mailbox, an identity provider, the worker and the web app …")
        with contextlib.chdir(home):  # RequestClient reads a .env file of the current folder
            if not await supervise(stack, lambda: _run_requests(stack)):
                raise SmartAccountsError("the demo was interrupted")


def _print(text: str) -> None:
    print(text, flush=True)


async def _run_requests(stack: StackConfiguration) -> None:
    window = ACCEPTANCE_WINDOW.seconds
    _print(f"Two requests: one customer accepts, the other does not answer for {window} s …")
    client = await RequestClient.connect()
    for lines in await asyncio.gather(_accept(client, stack), _let_lapse(client, stack)):
        _print(f"\n{lines}")
    _print("\nOne request ended active, one lapsed, and every email is in the mailbox.")


async def _accept(client: RequestClient, stack: StackConfiguration) -> str:
    """Accept a request on the page that the activation email links to. Return its timeline."""
    workflow_id = await _start(client, _ACCEPTED)
    # An acceptance stops the first emails that are not sent yet. A person is never fast enough to
    # do that, but this program would be.
    await _wait_for(client, workflow_id, Status.PENDING, _EMAILS_BEFORE_ACCEPTING)
    link = await _activation_link(stack, _ACCEPTED.customer_email)
    await _fetch(link)
    await _fetch(link, {"agree": "yes"})
    active, since = await _wait_for(client, workflow_id, Status.ACTIVE, _EMAILS_WHEN_ACCEPTED)
    await _check_mailbox(stack, _EMAILS_WHEN_ACCEPTED)
    return timeline(active, since)


async def _let_lapse(client: RequestClient, stack: StackConfiguration) -> str:
    workflow_id = await _start(client, _LAPSING)
    lapsed, since = await _wait_for(client, workflow_id, Status.LAPSED, _EMAILS_WHEN_LAPSED)
    await _check_mailbox(stack, _EMAILS_WHEN_LAPSED)
    return timeline(lapsed, since)


async def _start(client: RequestClient, request: SmartAccountRequest) -> str:
    """Start a request. Return its workflow id."""
    give_up_at = datetime.now(UTC) + TIMEOUT
    # With a key, a repeat returns the request that the lost call has started.
    started = await _retry(lambda: client.start(request, key="demo"), give_up_at)
    return started.workflow_id


async def _retry(call: Callable[[], Awaitable[Result]], give_up_at: datetime) -> Result:
    """Repeat a call that gets no response in time, because the machine may be busy."""
    while True:
        try:
            return await call()
        except NoResponse:
            if datetime.now(UTC) > give_up_at:
                raise
        await asyncio.sleep(POLL_SECONDS)


async def _wait_for(
    client: RequestClient, workflow_id: str, wanted: Status, emails: _Emails
) -> tuple[RequestStatus, datetime]:
    """Wait until the request has this status and these emails are sent.

    Returns the status, and the time when the request was first seen in it.
    """
    since: datetime | None = None
    give_up_at = datetime.now(UTC) + TIMEOUT
    while True:
        current = await _retry(lambda: client.status(workflow_id), give_up_at)
        if current.status is wanted:
            since = since or datetime.now(UTC)
            sent = {(e.kind, e.recipient) for e in current.emails if e.state is EmailState.SENT}
            if emails <= sent:
                return current, since
        elif current.status.is_final:
            raise SmartAccountsError(f"{workflow_id} is {current.status} instead of {wanted}")
        if datetime.now(UTC) > give_up_at:
            raise SmartAccountsError(
                f"after {TIMEOUT.seconds} s {workflow_id} is {current.status}, "
                f"but should be {wanted} with its emails sent"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _received_emails(stack: StackConfiguration) -> list[tuple[str, str, str]]:
    """Return the kind, recipient and text of each email in the mailbox."""
    api = stack.url("MAILBOX_PORT") + "/api/v1"
    found = []
    for listed in (await _fetch_json(f"{api}/messages"))["messages"]:
        message = f"{api}/message/{listed['ID']}"
        kinds = (await _fetch_json(f"{message}/headers")).get("X-Smart-Account-Mail", [""])
        text = (await _fetch_json(message))["Text"]
        found.append((kinds[0], listed["To"][0]["Address"], text))
    return found


async def _check_mailbox(stack: StackConfiguration, expected: _Emails) -> None:
    received = {(kind, recipient) for kind, recipient, _ in await _received_emails(stack)}
    for kind, recipient in expected - received:
        raise SmartAccountsError(f"the email {kind} to {recipient} is not in the mailbox")


async def _activation_link(stack: StackConfiguration, customer: str) -> str:
    for kind, recipient, text in await _received_emails(stack):
        link = re.search(rf"{re.escape(stack.url('WEB_PORT'))}/activate/\S+", text)
        if (kind, recipient) == (EmailKind.ACTIVATION, customer) and link:
            return link[0]
    raise SmartAccountsError(f"the mailbox has no activation email with a link for {customer}")


async def _fetch_json(url: str) -> Any:
    return json.loads(await _fetch(url))


async def _fetch(url: str, form: Mapping[str, str] | None = None) -> str:
    status, body = await request(url, form)
    if status not in (200, 303):
        path = urlsplit(url).path.rpartition("/")[0]  # the last segment may be a link's token
        raise SmartAccountsError(f"{'POST' if form else 'GET'} {path}/… returned status {status}")
    return body
