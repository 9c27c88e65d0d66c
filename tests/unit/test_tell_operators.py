"""The email to the operators, on the real store and a real mail server."""

from datetime import timedelta
from typing import Any

import pytest
from temporalio.testing import ActivityEnvironment

from activities.reviews import ReviewActivities
from smart_accounts.contract.messages import SmartAccountRequest
from smart_accounts.contract.steps import OpenRequest
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store.store import AccountStore
from tests.support.emails import SITE
from tests.support.mail_server import MailServer
from tests.support.sending import LIMITS, NOW


async def test_email_that_cannot_list_every_request_lists_its_own(
    store: AccountStore,
    example: dict[str, Any],
    sender: SmtpSender,
    mail_server: MailServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("smart_accounts.store.reviews.MAX_LISTED", 2)
    for number, name in enumerate(("one", "two", "three", "four")):
        request = SmartAccountRequest.model_validate(
            example | {"account_domain": f"{name}.example"}
        )
        at = NOW + timedelta(minutes=number)
        odd = OpenRequest(request_id=name, request=request, requested_at=at, deadline=at)
        await store.requests.open(odd, ("It is odd.",), LIMITS)
    reviews = ReviewActivities(store, Composer(SITE), sender, "operators@service.example")
    await ActivityEnvironment().run(reviews.tell_operators, "four")
    known = [
        name for name in ("one", "two", "three", "four") if await store.reviews.is_announced(name)
    ]
    assert known == ["one", "four"]
    await mail_server.wait_for("review-needed", "operators@service.example")
