"""What the activities count and measure, on the real store and a real mail server."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.exceptions import ApplicationError
from temporalio.testing import ActivityEnvironment

from activities.accounts import AccountActivities
from activities.reviews import ReviewActivities
from smart_accounts.contract.messages import SmartAccountRequest, Status
from smart_accounts.contract.steps import (
    Approve,
    Decision,
    IssueLink,
    OpenRequest,
    RecordDecision,
)
from smart_accounts.errors import Unavailable
from smart_accounts.mail.compose import Composer
from smart_accounts.mail.smtp import SmtpSender
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.listing import Counted
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal import gauges
from smart_accounts.temporal.gauges import keep_gauges
from tests.support.emails import ACTIVATION, REQUEST_RECEIVED, SITE
from tests.support.fake_temporal import FakeTemporal
from tests.support.mail_server import MailServer
from tests.support.metrics import RecordedMetrics
from tests.support.sending import LIMITS, NOW, send, sender_to

MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
EMAILS = "smart_accounts_emails"
TO_EMAIL = "smart_accounts_time_to_activation_email"


async def test_sent_emails_and_time_to_the_first_activation_email(
    pending: AccountStore,
    sender: SmtpSender,
    mail_server: MailServer,
    metrics: RecordedMetrics,
    example: dict[str, Any],
) -> None:
    await send(pending, sender, ACTIVATION, REQUEST_RECEIVED, meter=metrics.meter, at=NOW + MINUTE)
    read = dict(metrics.read())
    assert read.pop(TO_EMAIL) == pytest.approx(60, abs=30)
    assert read == {f"{EMAILS} activation sent": 1, f"{EMAILS} request-received sent": 1}

    request = SmartAccountRequest.model_validate(example)
    link = IssueLink(request_id="one", request=request, ordinal=2, at=NOW)
    await pending.requests.issue_link(link, (), LIMITS)
    second = ACTIVATION.model_copy(update={"number": 2})
    await send(pending, sender, ACTIVATION, second, REQUEST_RECEIVED, meter=metrics.meter)
    assert metrics.read() == [(f"{EMAILS} activation sent", 1)], "only the first one is measured"


async def test_time_to_the_activation_email_begins_at_the_approval(
    store: AccountStore,
    example: dict[str, Any],
    sender: SmtpSender,
    mail_server: MailServer,
    metrics: RecordedMetrics,
) -> None:
    request = SmartAccountRequest.model_validate(example)
    odd = OpenRequest(
        request_id="one", request=request, requested_at=NOW - DAY, deadline=NOW + 90 * DAY
    )
    await store.requests.open(odd, ("It is odd.",), LIMITS)
    await store.requests.approve(Approve(request_id="one", at=NOW))
    await send(store, sender, ACTIVATION, meter=metrics.meter, at=NOW + MINUTE)
    assert dict(metrics.read())[TO_EMAIL] == pytest.approx(60, abs=30)


async def test_emails_to_operators_are_counted(
    store: AccountStore,
    example: dict[str, Any],
    sender: SmtpSender,
    mail_server: MailServer,
    metrics: RecordedMetrics,
) -> None:
    request = SmartAccountRequest.model_validate(example)
    odd = OpenRequest(request_id="one", request=request, requested_at=NOW, deadline=NOW + 90 * DAY)
    await store.requests.open(odd, ("It is odd.",), LIMITS)
    reviews = ReviewActivities(store, Composer(SITE), sender, "operators@service.example")
    environment = ActivityEnvironment()
    environment.metric_meter = metrics.meter
    await environment.run(reviews.tell_operators, "one")
    assert metrics.read() == [(f"{EMAILS} review-needed sent", 1)]


@pytest.mark.parametrize(
    ("reply", "outcome"),
    [("550 5.1.1 no such user", "failed"), ("451 4.2.2 full", "delayed"), (None, "unreachable")],
)
async def test_emails_that_are_not_sent(
    pending: AccountStore,
    mail_server: MailServer,
    metrics: RecordedMetrics,
    reply: str | None,
    outcome: str,
) -> None:
    if reply:
        mail_server.refusals = {"ada@acme.example": reply}
    else:
        await mail_server.stop()
    sender = sender_to(mail_server)
    try:
        await send(pending, sender, ACTIVATION, meter=metrics.meter)
    except ApplicationError:
        assert outcome != "failed"
    await sender.aclose()
    assert metrics.read() == [(f"{EMAILS} activation {outcome}", 1)]


async def test_time_to_active_begins_when_the_customer_accepts_on_the_page(
    pending: AccountStore, metrics: RecordedMetrics
) -> None:
    customer = Actor(role=Role.CUSTOMER, email="ada@acme.example")
    await pending.audit.record(
        Action.ACCEPT, customer, Origin(client_address=None, user_agent=None), "one"
    )
    now = datetime.now(UTC)
    record = RecordDecision(request_id="one", decision=Decision(status=Status.ACTIVE, at=now - DAY))
    environment = ActivityEnvironment()
    environment.metric_meter = metrics.meter
    activate = AccountActivities(pending, LIMITS).activate_account
    assert (await environment.run(activate, record)).status is Status.ACTIVE
    [(name, seconds)] = metrics.read()
    assert (name, seconds < 60) == ("smart_accounts_time_to_active", True)

    again = record.model_copy()  # the workflow was reset
    assert (await environment.run(activate, again)).status is Status.ACTIVE
    assert metrics.read() == []


async def test_time_to_active_without_a_page_begins_at_the_decision(
    pending: AccountStore, metrics: RecordedMetrics
) -> None:
    decision = Decision(status=Status.ACTIVE, at=datetime.now(UTC) - DAY)
    environment = ActivityEnvironment()
    environment.metric_meter = metrics.meter
    activate = AccountActivities(pending, LIMITS).activate_account
    await environment.run(activate, RecordDecision(request_id="one", decision=decision))
    [(_, seconds)] = metrics.read()
    assert seconds == pytest.approx(86400, abs=60)


async def test_gauges_go_on_after_a_fault(
    pending: AccountStore,
    metrics: RecordedMetrics,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    count = pending.listing.count_by_status

    async def fail_once() -> dict[Status, Counted]:
        monkeypatch.setattr(pending.listing, "count_by_status", count)
        raise RuntimeError("a fault")

    monkeypatch.setattr(pending.listing, "count_by_status", fail_once)
    monkeypatch.setattr(gauges, "REFRESH_EVERY", timedelta(milliseconds=1))
    temporal = FakeTemporal()
    temporal.error = Unavailable("no")
    async with asyncio.timeout(20), keep_gauges(metrics.meter, temporal, pending):
        found: dict[str, float] = {}
        while "smart_accounts_requests pending" not in found:
            await asyncio.sleep(0.01)
            found |= metrics.read()
    assert found["smart_accounts_requests pending"] == 1
    assert found["smart_accounts_reachable temporal"] == 0
    assert [each.getMessage() for each in caplog.records] == ["could not refresh the metrics"]
