"""``make demo``: the whole stack on free ports, one request accepted, one left to lapse."""

import asyncio
import json
import os
import re
import tempfile
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from smart_accounts.contract.messages import (
    EmailKind,
    EmailState,
    Requester,
    RequestStatus,
    SmartAccountRequest,
    Status,
)
from smart_accounts.errors import SmartAccountsError
from smart_accounts.local.configuration import Plan, free_ports, make_plan
from smart_accounts.local.http_client import call
from smart_accounts.local.stack import supervise
from smart_accounts.local.timeline import timeline
from smart_accounts.settings import PREFIX
from smart_accounts.temporal.client import RequestClient

_Emails = set[tuple[str, str]]
"""Kind and recipient of each."""

WINDOW = timedelta(seconds=5)
PATIENCE = timedelta(seconds=20)
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
_IGNORED = SmartAccountRequest(
    account_name="Meadow Farms",
    account_domain="meadow.example",
    customer_email="eve@meadow.example",
    requester=Requester(email="kim@reseller.example", name="Kim Roy", company="Reseller GmbH"),
    acceptance_window=WINDOW,
)
_EMAILS_WHEN_IGNORED: _Emails = {
    (EmailKind.ACTIVATION, "eve@meadow.example"),
    (EmailKind.REQUEST_RECEIVED, "kim@reseller.example"),
    (EmailKind.LAPSED, "eve@meadow.example"),
    (EmailKind.LAPSED, "kim@reseller.example"),
}


async def demo() -> None:
    """Run the demo.

    Raises:
        SmartAccountsError: it did not end as it should; the message says why.
    """
    # It stands alone: real servers that the environment names are none of its business.
    for name in [name for name in os.environ if name.startswith(("TEMPORAL_", PREFIX))]:
        del os.environ[name]
    with tempfile.TemporaryDirectory(prefix="smart-accounts-demo-") as home:
        ports = {name: str(port) for name, port in free_ports().items()}
        plan = make_plan(Path(home), os.environ | ports)
        # The client finds Temporal as the worker does.
        os.environ.update({k: v for k, v in plan.environment.items() if k.startswith("TEMPORAL_")})
        _say("Starting Temporal, a mailbox, an identity provider, the worker and the web app …")
        if not await supervise(plan, lambda: _show(plan)):
            raise SmartAccountsError("the demo was interrupted")


def _say(text: str) -> None:
    print(text, flush=True)


async def _show(plan: Plan) -> None:
    _say(f"Two requests: one customer accepts, one does not answer for {WINDOW.seconds} s …")
    client = await RequestClient.connect()
    for story in await asyncio.gather(_accept(client, plan), _leave_alone(client, plan)):
        _say(f"\n{story}")
    _say("\nOne request ended active, one lapsed, and every email is in the mailbox.")


async def _accept(client: RequestClient, plan: Plan) -> str:
    """The customer opens the page that the activation email links to, and agrees."""
    workflow_id = (await client.start(_ACCEPTED)).workflow_id
    # No person is fast enough to overtake the first emails, which an acceptance would make untrue.
    await _reach(client, workflow_id, Status.PENDING, _EMAILS_BEFORE_ACCEPTING)
    link = await _activation_link(plan, _ACCEPTED.customer_email)
    await _expect_success(link)
    await _expect_success(link, {"agree": "yes"})
    active, since = await _reach(client, workflow_id, Status.ACTIVE, _EMAILS_WHEN_ACCEPTED)
    await _expect_emails(plan, _EMAILS_WHEN_ACCEPTED)
    return timeline(active, since)


async def _leave_alone(client: RequestClient, plan: Plan) -> str:
    workflow_id = (await client.start(_IGNORED)).workflow_id
    lapsed, since = await _reach(client, workflow_id, Status.LAPSED, _EMAILS_WHEN_IGNORED)
    await _expect_emails(plan, _EMAILS_WHEN_IGNORED)
    return timeline(lapsed, since)


async def _reach(
    client: RequestClient, workflow_id: str, where: Status, mails: _Emails
) -> tuple[RequestStatus, datetime]:
    """Wait until the request stands there and the emails are sent; also tell since when it does."""
    since: datetime | None = None
    give_up_at = datetime.now(UTC) + PATIENCE
    while True:
        status = await client.status(workflow_id)
        if status.status is where:
            since = since or datetime.now(UTC)
            sent = {(m.kind, m.recipient) for m in status.emails if m.state is EmailState.SENT}
            if mails <= sent:
                return status, since
        elif status.status.is_final:
            raise SmartAccountsError(f"{workflow_id} is {status.status} instead of {where}")
        if datetime.now(UTC) > give_up_at:
            raise SmartAccountsError(
                f"{workflow_id} is not {where} with its emails sent after {PATIENCE.seconds} s, "
                f"but {status.status}"
            )
        await asyncio.sleep(POLL_SECONDS)


async def _mailbox(plan: Plan) -> list[tuple[str, str, str]]:
    """Kind, recipient and text of each email that arrived."""
    api = plan.url("MAILBOX_PORT") + "/api/v1"
    found = []
    for listed in (await _json(f"{api}/messages"))["messages"]:
        message = f"{api}/message/{listed['ID']}"
        kinds = (await _json(f"{message}/headers")).get("X-Smart-Account-Mail", [""])
        text = (await _json(message))["Text"]
        found.append((kinds[0], listed["To"][0]["Address"], text))
    return found


async def _expect_emails(plan: Plan, mails: _Emails) -> None:
    arrived = {(kind, recipient) for kind, recipient, _ in await _mailbox(plan)}
    for kind, recipient in mails - arrived:
        raise SmartAccountsError(f"the email {kind} to {recipient} is not in the mailbox")


async def _activation_link(plan: Plan, customer: str) -> str:
    for kind, recipient, text in await _mailbox(plan):
        link = re.search(rf"{re.escape(plan.url('WEB_PORT'))}/activate/\S+", text)
        if (kind, recipient) == (EmailKind.ACTIVATION, customer) and link:
            return link[0]
    raise SmartAccountsError(f"no activation email with a link to {customer} is in the mailbox")


async def _json(url: str) -> Any:
    return json.loads(await _expect_success(url))


async def _expect_success(url: str, form: Mapping[str, str] | None = None) -> str:
    status, body = await call(url, form)
    if status not in (200, 303):
        path = urlsplit(url).path.rpartition("/")[0]  # without the link's token
        raise SmartAccountsError(f"{'POST' if form else 'GET'} {path}/… was answered {status}")
    return body
