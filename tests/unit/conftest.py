"""A stored request and a connection to the test's mail server."""

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import OpenRequest
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store.store import AccountStore
from tests.support.mail_server import MailServer
from tests.support.sending import LIMITS, NOW, sender_to


@pytest.fixture
async def sender(mail_server: MailServer) -> AsyncIterator[SmtpSender]:
    opened = sender_to(mail_server)
    yield opened
    await opened.aclose()


@pytest.fixture
async def pending(store: AccountStore, example: dict[str, Any]) -> AccountStore:
    request = SmartAccountRequest.model_validate(example)
    new = OpenRequest(
        request_id="one", request=request, requested_at=NOW, deadline=NOW + timedelta(days=90)
    )
    await store.requests.open(new, (), LIMITS)
    return store
