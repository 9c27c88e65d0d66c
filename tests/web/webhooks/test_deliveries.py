"""The deliveries that the page of an endpoint shows."""

from collections.abc import Sequence

import pytest

from smart_accounts.contract.webhooks import DeliveryState
from smart_accounts.store.webhook_records import Attempt, Delivery
from smart_accounts.web.webhooks import detail
from tests.support.page_content import visible_text
from tests.support.partner_site import PartnerSite, pat_request
from tests.support.webhook_scenes import (
    ACCEPTED,
    REFUSED,
    add_delivery,
    only_endpoint,
    record_attempt,
    register,
)

HOSTILE = "<script>alert(1)</script>\"'><img src=x onerror=alert(2)> https://evil.example/"


@pytest.fixture(autouse=True)
def no_waiting_for_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(detail, "RESULT_SECONDS", 0)


async def test_result_and_response_of_each_delivery(partner_site: PartnerSite) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    path = f"/webhooks/{endpoint.id}"
    await add_delivery(partner_site, endpoint, ACCEPTED)
    shown = visible_text(await partner_site.http.get(path))
    assert "Test event" in shown
    assert "Delivered Status 204, after 41 ms" in shown
    assert "Enabled Messages are sent" in shown
    unavailable = Attempt(status_code=503, error="Status 503.", response=HOSTILE, took_ms=9)
    await add_delivery(partner_site, endpoint, REFUSED, unavailable)
    page = await partner_site.http.get(path)
    shown = visible_text(page)
    assert "Failing No message has arrived since" in shown
    assert "Will be tried again Status 503, after 9 ms" in shown
    assert "2 attempts" in shown
    assert "Next attempt" in shown
    assert HOSTILE in shown  # as text
    assert "<img" not in page.text
    assert "<script>" not in page.text
    assert "evil.example/</a>" not in page.text


async def test_delivery_is_sent_again_with_the_same_id(partner_site: PartnerSite) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    delivery = await add_delivery(partner_site, endpoint, ACCEPTED)
    for _ in range(2):
        path = f"/webhooks/{endpoint.id}/deliveries/{delivery.id}/resend"
        page = visible_text(await partner_site.submit(path))
        assert "The message is sent again." in page
        assert "On its way" in page
    [again] = await partner_site.store.webhooks.deliveries(endpoint.id)
    assert (again.id, again.event_id, again.body) == (
        delivery.id,
        delivery.event_id,
        delivery.body,
    )
    assert again.state is DeliveryState.PENDING
    assert not again.handed_over


async def test_test_event_waits_for_its_result(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    monkeypatch.setattr(detail, "RESULT_SECONDS", 20)
    webhooks = partner_site.store.webhooks
    read = webhooks.deliveries

    async def deliver_after_the_first_look(endpoint_id: str) -> Sequence[Delivery]:
        [delivery] = await read(endpoint_id)
        await record_attempt(partner_site.store, delivery.id, ACCEPTED)
        monkeypatch.setattr(webhooks, "deliveries", read)
        return [delivery]

    monkeypatch.setattr(webhooks, "deliveries", deliver_after_the_first_look)
    page = visible_text(await partner_site.submit(f"/webhooks/{endpoint.id}/ping"))
    assert "The test event is sent." in page
    assert "Delivered Status 204" in page


async def test_delivery_leads_to_its_request(partner_site: PartnerSite) -> None:
    await register(partner_site)
    run = await partner_site.add_request(pat_request())
    endpoint = await only_endpoint(partner_site)
    page = await partner_site.http.get(f"/webhooks/{endpoint.id}")
    link = f'href="/requests/smart-account-acme.example?run={run}">acme.example</a>'
    assert link in page.text
    assert "The customer was asked to accept" in visible_text(page)
