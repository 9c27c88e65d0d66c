"""The email that tells an owner that a webhook endpoint was disabled."""

from dataclasses import replace
from datetime import UTC, datetime

from smart_accounts.contract.identity import Identity
from smart_accounts.contract.webhooks import EndpointState, EventType
from smart_accounts.store.webhook_records import Endpoint
from tests.support.emails import Page, ReceivedEmail, both_parts, composer, receive

ENDPOINT = Endpoint(
    id="3f0c8f6e-8d0c-4a52-9b0a-6a1f3a1c2d11",
    owner=Identity("https://login.example", "pat"),
    owner_email="pat@partner.example",
    for_all_requests=False,
    url="https://hooks.partner.example/accounts",
    description="Our CRM",
    event_types=(EventType.ACTIVE,),
    state=EndpointState.DISABLED,
    sealed_secret="sealed",
    previous_sealed_secret=None,
    previous_secret_until=None,
    created_at=datetime(2026, 8, 27, 14, 5, tzinfo=UTC),
    failing_since=datetime(2026, 9, 1, 9, 30, tzinfo=UTC),
    last_failed_at=datetime(2026, 9, 6, 9, 42, tzinfo=UTC),
    disabled_at=datetime(2026, 9, 6, 9, 42, tzinfo=UTC),
    owner_told_at=None,
)


def compose(endpoint: Endpoint = ENDPOINT) -> ReceivedEmail:
    return receive(composer().compose_webhook_disabled(endpoint))


def test_headers() -> None:
    message = compose().message
    assert message["Subject"] == "A webhook endpoint was disabled after five days of failures"
    assert message["To"] == "pat@partner.example"
    assert message["X-Smart-Account-Mail"] == "webhook-disabled"
    first = f"<{ENDPOINT.id}.webhook-disabled.20260906T094200@accounts.example>"
    assert message["Message-ID"] == first
    again = replace(ENDPOINT, disabled_at=datetime(2026, 10, 6, 9, 42, tzinfo=UTC))
    assert compose(again).message["Message-ID"] != first


def test_content() -> None:
    email = compose()
    for part in both_parts(email):
        for words in (
            "has not accepted a single event for five days",
            "The events that waited for it are marked as failed.",
            "enable it again on its page",
            "you can send the failed events again",
            "Endpoint https[:]//hooks.partner[.]example/accounts Our CRM",
            "Failing since 2026-09-01 09:30 UTC",
            "Disabled on 2026-09-06 09:42 UTC",
            "https://accounts.example/webhooks",
        ):
            assert words in part
        assert "None" not in part


def test_written_text_is_neither_markup_nor_a_link() -> None:
    url, description = "https://evil.example/?<b>x</b>", "<i>www.evil.example"
    evil = replace(ENDPOINT, url=url, description=description)
    page = Page(compose(evil).html)
    assert not {"b", "i"} & page.tags
    assert "www.evil.example" not in page.text
    assert page.links == {"https://accounts.example/webhooks", "https://help.example/ask"}
