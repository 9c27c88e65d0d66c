"""Who may see and change a webhook endpoint on the pages."""

import logging
from dataclasses import replace

import pytest

from smart_accounts.store.sessions import Partner
from tests.support.page_content import visible_text
from tests.support.partner_site import PartnerSite
from tests.support.partners import KIM, OPERATOR, PAT
from tests.support.webhook_scenes import (
    ALL_EVENTS,
    RECEIVER,
    add_delivery,
    endpoints,
    only_endpoint,
    register,
    shown_secret,
)

ACTIONS = ("change", "rotate-secret", "ping", "pause", "resume", "delete")
OTHER_OPERATOR = replace(OPERATOR, subject="otto", email="otto@service.example")
UNKNOWN = "/webhooks/00000000-0000-4000-8000-000000000000"


@pytest.mark.parametrize("path", ["", "/new", "/x", "/x/change"])
async def test_pages_need_a_sign_in(partner_site: PartnerSite, path: str) -> None:
    partner_site.sign_out()
    response = await partner_site.http.get(f"/webhooks{path}")
    assert response.status_code == 303
    assert response.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize("person", [KIM, OPERATOR])
async def test_another_partners_endpoint_looks_like_an_unknown_one(
    partner_site: PartnerSite, person: Partner
) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    delivery = await add_delivery(partner_site, endpoint)
    path, resend = f"/webhooks/{endpoint.id}", f"deliveries/{delivery.id}/resend"
    await partner_site.sign_in(person)
    assert RECEIVER not in (await partner_site.http.get("/webhooks")).text
    unknown = (await partner_site.http.get(UNKNOWN)).text
    for page in ("", "/change"):
        response = await partner_site.http.get(path + page)
        assert (response.status_code, response.text) == (404, unknown)
    for action in (*ACTIONS, resend):
        response = await partner_site.post(f"{path}/{action}", url="https://93.184.215.14/evil")
        assert (response.status_code, response.text) == (404, unknown), action
    assert await partner_site.store.webhooks.find(endpoint.id) == endpoint
    assert await partner_site.store.webhooks.deliveries(endpoint.id) == [delivery]


async def test_delivery_of_another_endpoint_is_not_sent_again(partner_site: PartnerSite) -> None:
    await register(partner_site)
    foreign = await only_endpoint(partner_site)
    delivery = await add_delivery(partner_site, foreign)
    await partner_site.sign_in(KIM)
    await register(partner_site)
    own = await only_endpoint(partner_site)
    for id_ in (delivery.id, "00000000-0000-4000-8000-000000000000", "x", "%00"):
        path = f"/webhooks/{own.id}/deliveries/{id_}/resend"
        assert (await partner_site.post(path)).status_code == 404, id_
    assert await partner_site.store.webhooks.deliveries(foreign.id) == [delivery]


@pytest.mark.parametrize("action", ["", "/new", *(f"/{{}}/{each}" for each in ACTIONS)])
async def test_form_of_another_site_changes_nothing_and_get_neither(
    partner_site: PartnerSite, action: str
) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    path = f"/webhooks{action}".format(endpoint.id)
    form = {"url": RECEIVER} | ALL_EVENTS
    elsewhere = {"Origin": "https://evil.example"}
    token = await partner_site.csrf_token()
    for csrf, headers in ((token, elsewhere), ("", {}), ("guessed", {})):
        response = await partner_site.http.post(path, data=form | {"csrf": csrf}, headers=headers)
        assert response.status_code == (405 if action == "/new" else 403)
    for method in ("GET", "HEAD"):
        await partner_site.http.request(method, path)
    assert await endpoints(partner_site) == [endpoint]
    assert not await partner_site.store.webhooks.deliveries(endpoint.id)


async def test_form_of_an_earlier_session_is_shown_again(partner_site: PartnerSite) -> None:
    await register(partner_site)
    path = f"/webhooks/{(await only_endpoint(partner_site)).id}"
    old = await partner_site.csrf_token()
    await partner_site.sign_in(PAT)
    form = {"csrf": old, "url": "https://93.184.215.99/", "description": "Typed"}
    headers = {"Origin": partner_site.url}
    for action in ("", *(f"{path}/{each}".removeprefix("/webhooks") for each in ACTIONS)):
        response = await partner_site.http.post(
            f"/webhooks{action}", data=form | ALL_EVENTS, headers=headers
        )
        assert response.status_code == 403
        assert "Please send this again." in visible_text(response)
        assert ('value="Typed"' in response.text) == (action == "" or "change" in action)
    assert len(await endpoints(partner_site)) == 1


async def test_only_operators_get_the_events_of_all_requests(partner_site: PartnerSite) -> None:
    assert "for_all_requests" not in (await partner_site.http.get("/webhooks/new")).text
    for fields in ({}, {"description": "<b>"}):  # an error must not skip the check
        forged = await register(partner_site, for_all_requests="yes", **fields)
        assert forged.status_code == 403
    assert not await endpoints(partner_site)
    await partner_site.sign_in(OPERATOR)
    assert "for_all_requests" in (await partner_site.http.get("/webhooks/new")).text
    shown_secret(await register(partner_site, for_all_requests="yes"))
    endpoint = await only_endpoint(partner_site)
    path = f"/webhooks/{endpoint.id}"

    await partner_site.sign_in(OTHER_OPERATOR)
    assert await endpoints(partner_site) == [endpoint]
    assert "Requests of all partners" in visible_text(await partner_site.http.get("/webhooks"))
    assert "opal@service.example" in (await partner_site.http.get(path)).text
    shown_secret(await partner_site.post(f"{path}/rotate-secret"))

    # The person who registered it is no longer an operator.
    await partner_site.sign_in(replace(OPERATOR, is_operator=False))
    assert await endpoints(partner_site) == []
    assert (await partner_site.http.get(path)).status_code == 404
    assert (await partner_site.post(f"{path}/rotate-secret")).status_code == 404


async def test_secret_is_in_no_log(
    partner_site: PartnerSite, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    first = shown_secret(await register(partner_site))
    path = f"/webhooks/{(await only_endpoint(partner_site)).id}/rotate-secret"
    rotated = await partner_site.post(path)
    for secret in (first, shown_secret(rotated)):
        assert secret not in caplog.text
    assert rotated.headers["cache-control"] == "no-store"
    assert rotated.headers["referrer-policy"] == "same-origin"
    assert "set-cookie" not in rotated.headers
    assert "webhook.rotate-secret" in caplog.text
