"""The first release's data with an open request in it: this code goes on with it.

``data/local-0004.zip`` is the folder ``.local`` of ``make run`` at the first release, whose
database has revision 0004. Its one request was started on 2026-11-26 and is open for 365 days. The
stack of these tests starts with it. So this also shows that a stack keeps its requests over a
restart.
"""

import asyncio
from datetime import UTC, datetime

import httpx
import pytest

from smart_accounts.contract.messages import RequestStatus, Status
from smart_accounts.errors import Unavailable
from smart_accounts.store.store import AccountStore
from smart_accounts.tokens import LinkTokens
from tests.support.local_stack import RunningStack
from tests.support.patient_client import PatientClient

pytestmark = pytest.mark.server

WORKFLOW_ID = "smart-account-acme.example"
RUN_ID = "01a21756-d020-7066-bf0e-fd2080c9ec91"
MESSAGE_ID = f"<{RUN_ID}.activation.customer.1@smart-accounts.example>"
DEADLINE = datetime(2027, 11, 26, 10, 11, 35, 72028, UTC)


async def wait_for_status(client: PatientClient, *expected: Status) -> RequestStatus:
    async with asyncio.timeout(40):
        while True:
            try:
                status = await client.status(WORKFLOW_ID, run_id=RUN_ID)
            except Unavailable:  # no worker responds yet
                continue
            if status.status in expected:
                return status
            await asyncio.sleep(0.05)


def tokens(stack: RunningStack) -> LinkTokens:
    return LinkTokens([(stack.home / ".local" / "secret-keys").read_text().strip()])


async def accept(stack: RunningStack) -> None:
    token = tokens(stack).candidates(RUN_ID, 1)[0]
    link = f"{stack.url('WEB_PORT')}/activate/{token}"
    async with httpx.AsyncClient(follow_redirects=True) as http:
        assert "Acme Networks" in (await http.get(link)).text
        assert (await http.post(link, data={"agree": "yes"})).status_code == 200


async def test_open_request_of_the_first_release_becomes_active(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = f"127.0.0.1:{stack.ports['TEMPORAL_PORT']}"
    monkeypatch.setenv("TEMPORAL_ADDRESS", address)
    client = await PatientClient.connect()
    if datetime.now(UTC) > DEADLINE:
        await wait_for_status(client, Status.LAPSED)
        return
    pending = await wait_for_status(client, Status.PENDING)
    assert (pending.account_name, pending.deadline) == ("Acme Networks", DEADLINE)
    assert {email.kind: email.state for email in pending.emails} == {
        "activation": "sent",
        "request-received": "sent",
    }
    await accept(stack)
    await wait_for_status(client, Status.ACTIVE)
    url = f"sqlite+aiosqlite:///{stack.home / '.local' / 'accounts.db'}"
    async with AccountStore.open(url) as store:
        await store.ping()  # it has the newest revision
        stored = await store.requests.find(RUN_ID)
        returned = await store.emails.find_returned(tokens(stack).return_token(MESSAGE_ID))
    assert returned, "a bounce of an email that the first release sent is recognised"
    assert stored
    assert (stored.status, stored.deadline) == (Status.ACTIVE, DEADLINE)
    assert stored.added_users == ("bo@acme.example",)
