"""Registering, changing, pausing and deleting webhook endpoints on the pages."""

import asyncio
from datetime import UTC, datetime, timedelta

import pytest

from smart_accounts.contract.webhooks import SUBSCRIBABLE, EndpointState, EventType
from smart_accounts.store.webhooks import MAX_ENDPOINTS
from smart_accounts.webhooks.addresses import NOT_A_URL
from smart_accounts.webhooks.signing import unseal
from tests.support.keys import KEY
from tests.support.page_content import hidden_fields, visible_text
from tests.support.partner_site import PartnerSite
from tests.support.webhook_scenes import (
    ALL_EVENTS,
    RECEIVER,
    add_delivery,
    endpoints,
    only_endpoint,
    register,
    shown_secret,
)

BIDI = "CRM \u202eexe"


async def test_partner_registers_an_endpoint_and_sees_its_secret_once(
    partner_site: PartnerSite,
) -> None:
    empty = visible_text(await partner_site.http.get("/webhooks"))
    assert "You have no endpoint yet." in empty
    secret = shown_secret(await register(partner_site))
    endpoint = await only_endpoint(partner_site)
    assert unseal([endpoint.sealed_secret], [KEY]) == [secret]
    assert (endpoint.url, endpoint.description) == (RECEIVER, "Our CRM")
    assert (endpoint.event_types, endpoint.state) == (SUBSCRIBABLE, EndpointState.ENABLED)
    assert not endpoint.for_all_requests
    for path in ("/webhooks", f"/webhooks/{endpoint.id}", f"/webhooks/{endpoint.id}/change"):
        page = await partner_site.http.get(path)
        assert (page.status_code, page.headers["cache-control"]) == (200, "no-store")
        assert RECEIVER in page.text
        assert "whsec_" not in page.text


async def test_same_form_registers_one_endpoint(partner_site: PartnerSite) -> None:
    form_id = hidden_fields(await partner_site.http.get("/webhooks/new"))["form_id"]
    shown_secret(await register(partner_site, form_id=form_id))
    again = await register(partner_site, form_id=form_id)
    [endpoint] = await endpoints(partner_site)
    assert (again.status_code, again.headers["location"]) == (303, f"/webhooks/{endpoint.id}")
    page = visible_text(await partner_site.http.get(again.headers["location"]))
    assert "This endpoint is registered already." in page
    assert "whsec_" not in page


@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"url": ""}, {"url": NOT_A_URL}),
        ({"url": "ftp://93.184.215.14/"}, {"url": "The URL must begin with https://."}),
        (
            {"url": "https://pat:secret@93.184.215.14/"},
            {"url": "The URL must not have a user name or a password."},
        ),
        (
            {"url": "https://169.254.169.254/latest"},
            {"url": "This host has no public address. Check the URL."},
        ),
        (
            {"description": BIDI},
            {"description": "must not contain control or invisible characters."},
        ),
        ({"description": "x" * 201}, {"description": "must have at most 200 characters."}),
        (
            {"url": "https://10.0.0.1/", "description": "<b>"},
            {"url": "This host has no public address.", "description": "must not contain < or >."},
        ),
    ],
)
async def test_each_error_is_shown_once_and_nothing_typed_is_lost(
    partner_site: PartnerSite, fields: dict[str, str], errors: dict[str, str]
) -> None:
    response = await register(partner_site, **fields)
    assert response.status_code == 422
    shown = visible_text(response)
    for text in errors.values():
        assert shown.count(text) == 2  # in the summary, and at the field
    assert response.text.count('class="error"') == len(errors)
    typed = {"url": RECEIVER, "description": "Our CRM"} | fields
    for value in typed.values():
        escaped = value.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
        assert f'value="{escaped}"' in response.text
    assert response.text.count(" checked") == len(ALL_EVENTS)
    assert not await endpoints(partner_site)


async def test_choice_of_events(partner_site: PartnerSite) -> None:
    form_id = hidden_fields(await partner_site.http.get("/webhooks/new"))["form_id"]
    form = {"form_id": form_id, "url": RECEIVER, "description": ""}
    response = await partner_site.post("/webhooks", **form)
    assert response.status_code == 422
    assert "Choose at least one event." in visible_text(response)
    assert " checked" not in response.text
    shown_secret(await partner_site.post("/webhooks", **form, **{"request.active": "yes"}))
    endpoint = await only_endpoint(partner_site)
    assert endpoint.event_types == (EventType.ACTIVE,)
    assert "1 of 11 events" in visible_text(await partner_site.http.get("/webhooks"))


async def test_eleventh_endpoint_is_rejected_and_nothing_typed_is_lost(
    partner_site: PartnerSite,
) -> None:
    form_ids = [f"form-{number}" for number in range(MAX_ENDPOINTS + 3)]
    responses = await asyncio.gather(*(register(partner_site, form_id=each) for each in form_ids))
    assert sorted(each.status_code for each in responses) == [200] * MAX_ENDPOINTS + [409] * 3
    last = next(each for each in responses if each.status_code == 409)
    assert "You have 10 endpoints, which is the limit." in visible_text(last)
    assert f'value="{RECEIVER}"' in last.text
    assert len(await endpoints(partner_site)) == MAX_ENDPOINTS


async def test_changed_endpoint(partner_site: PartnerSite) -> None:
    await register(partner_site)
    path = f"/webhooks/{(await only_endpoint(partner_site)).id}/change"
    bad = await partner_site.post(
        path, url="https://10.0.0.1/", description="Our ERP", **ALL_EVENTS
    )
    assert bad.status_code == 422
    assert 'value="Our ERP"' in bad.text
    other = "https://93.184.215.15:8443/x?y=1"
    form = {"url": other, "description": "Our ERP", "request.lapsed": "yes"}
    page = await partner_site.submit(path, **form)
    assert "The changes are saved." in visible_text(page)
    endpoint = await only_endpoint(partner_site)
    assert (endpoint.url, endpoint.description) == (other, "Our ERP")
    assert endpoint.event_types == (EventType.LAPSED,)
    assert "The changes are saved." not in visible_text(await partner_site.http.get(page.url.path))


async def test_pause_resume_and_delete_with_repeats(partner_site: PartnerSite) -> None:
    await register(partner_site)
    path = f"/webhooks/{(await only_endpoint(partner_site)).id}"
    for action, state, words in (
        ("pause", EndpointState.PAUSED, "The endpoint is paused."),
        ("resume", EndpointState.ENABLED, "The endpoint is enabled."),
    ):
        for _ in range(2):
            page = await partner_site.submit(f"{path}/{action}")
            assert words in visible_text(page)
            assert (await only_endpoint(partner_site)).state is state
    page = await partner_site.submit(f"{path}/delete")
    assert "The endpoint is deleted." in visible_text(page)
    assert not await endpoints(partner_site)
    second_click = await partner_site.post(f"{path}/delete")
    assert second_click.status_code == 404
    assert "There is no such endpoint. It may have been deleted." in visible_text(second_click)


async def test_only_an_enabled_endpoint_gets_a_test_event(partner_site: PartnerSite) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    delivery = await add_delivery(partner_site, endpoint)
    path = f"/webhooks/{endpoint.id}"
    await partner_site.post(f"{path}/pause")
    assert "Send again" not in (await partner_site.http.get(path)).text
    for action in ("ping", f"deliveries/{delivery.id}/resend"):
        response = await partner_site.post(f"{path}/{action}")
        assert response.status_code == 409
        assert "The endpoint is paused." in visible_text(response)
    assert len(await partner_site.store.webhooks.deliveries(endpoint.id)) == 1


async def test_second_rotation_in_a_row_keeps_the_secret_that_the_receiver_knows(
    partner_site: PartnerSite,
) -> None:
    first = shown_secret(await register(partner_site))
    path = f"/webhooks/{(await only_endpoint(partner_site)).id}/rotate-secret"

    async def stored() -> tuple[list[str], datetime]:
        endpoint = await only_endpoint(partner_site)
        assert endpoint.previous_sealed_secret
        assert endpoint.previous_secret_until
        sealed = [endpoint.sealed_secret, endpoint.previous_sealed_secret]
        return unseal(sealed, [KEY]), endpoint.previous_secret_until

    second = shown_secret(await partner_site.post(path))
    secrets, until = await stored()
    assert secrets == [second, first]
    assert timedelta(hours=23) < until - datetime.now(UTC) <= timedelta(hours=24)
    third = shown_secret(await partner_site.post(path))
    assert await stored() == ([third, first], until)
    detail = visible_text(await partner_site.http.get(path.removesuffix("/rotate-secret")))
    assert "A new secret replaces it at once" in detail
    assert "whsec_" not in detail


async def test_rotation_after_the_overlap_keeps_the_newest_secret(
    partner_site: PartnerSite,
) -> None:
    await register(partner_site)
    endpoint = await only_endpoint(partner_site)
    rotate, now = partner_site.store.webhooks.rotate_secret, datetime.now(UTC)
    await rotate(endpoint.id, "second", now - timedelta(hours=1))
    await rotate(endpoint.id, "third", now + timedelta(hours=24))
    endpoint = await only_endpoint(partner_site)
    assert (endpoint.sealed_secret, endpoint.previous_sealed_secret) == ("third", "second")
