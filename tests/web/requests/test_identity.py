"""A partner is an issuer and a subject. Their address may change, and others may have it later."""

from dataclasses import replace

import pytest

from smart_accounts.contract.identity import Identity
from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import OPERATOR, PAT

MALLORY = replace(PAT, subject="mallory", email="PAT@Partner.example")


async def sees(site: PartnerSite) -> bool:
    """Return whether the partner sees the request. All pages must agree."""
    is_listed = "Acme" in (await site.http.get("/requests")).text
    paths = [ACME_PAGE, f"{ACME_PAGE}/complete"]
    if not is_listed:
        paths.append(f"{ACME_PAGE}/events")  # for the owner, it responds for a minute
    for path in paths:
        assert ((await site.http.get(path)).status_code != 404) is is_listed
    return is_listed


async def test_partner_keeps_the_requests_when_the_address_changes(
    partner_site: PartnerSite,
) -> None:
    await partner_site.add_request(pat_request())
    for changed in (
        replace(PAT, email="pat.roy@new.example"),
        replace(PAT, name="Pat Roy", company="New Ltd"),
        replace(PAT, email_verified=False),
    ):
        await partner_site.sign_in(changed)
        assert await sees(partner_site)
        assert (await partner_site.post(f"{ACME_PAGE}/resend")).status_code == 303


async def test_another_person_with_the_address_sees_nothing(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    await partner_site.sign_in(MALLORY)
    assert not await sees(partner_site)
    for action in ("resend", "replace-approver", "withdraw"):
        response = await partner_site.post(f"{ACME_PAGE}/{action}", customer_email="m@x.example")
        assert response.status_code == 404
    await partner_site.temporal.start(pat_request(), key="another")
    rejected = await partner_site.submit("/requests", **FORM)
    assert rejected.status_code == 409
    assert run not in rejected.text
    assert not partner_site.temporal.actions
    listing, workflow_id = partner_site.store.listing, "smart-account-acme.example"
    of_another_issuer = Identity("https://other.example", PAT.subject)
    assert await listing.newest(workflow_id, owner=PAT.identity)
    assert await listing.newest(workflow_id, owner=of_another_issuer) is None


async def test_request_over_temporal_belongs_to_the_first_person(
    partner_site: PartnerSite,
) -> None:
    await partner_site.add_request(pat_request(), owner=None)
    assert await sees(partner_site)
    await partner_site.sign_in(replace(PAT, email="pat.roy@new.example"))
    assert await sees(partner_site)
    await partner_site.sign_in(MALLORY)
    assert not await sees(partner_site)


async def test_address_that_is_only_trusted_adopts_nothing(partner_site: PartnerSite) -> None:
    await partner_site.add_request(pat_request(), owner=None)
    await partner_site.sign_in(replace(PAT, email_verified=False))
    assert not await sees(partner_site)
    await partner_site.sign_in(PAT)
    assert await sees(partner_site)


async def test_request_that_only_temporal_has(partner_site: PartnerSite) -> None:
    """Without a worker, the memo names the owner. Without a memo, nobody but operators sees it."""
    for owner, addressee, found in [
        (PAT.identity, replace(PAT, email="pat.roy@new.example"), True),
        (PAT.identity, MALLORY, False),
        (None, PAT, False),
        (None, OPERATOR, True),
    ]:
        partner_site.temporal.running.clear()
        await partner_site.temporal.start(pat_request(), owner=owner)
        await partner_site.sign_in(addressee)
        response = await partner_site.http.get(ACME_PAGE)
        assert response.status_code == (200 if found else 404)
    [run] = await partner_site.store_running_requests()
    await partner_site.sign_in(PAT)
    assert (await partner_site.http.get(f"{ACME_PAGE}?run={run}")).status_code == 200


async def test_request_from_the_form_names_its_owner_in_the_memo(
    partner_site: PartnerSite,
) -> None:
    await partner_site.post("/requests", **FORM)
    [(running, _)] = partner_site.temporal.running.values()
    assert running.owner == PAT.identity


@pytest.mark.parametrize("is_stated", [False, True])
async def test_company_that_the_partner_entered_is_marked(
    partner_site: PartnerSite, is_stated: bool
) -> None:
    if is_stated:
        await partner_site.store.partners.keep_company(PAT.issuer, PAT.subject, PAT.company)
    await partner_site.add_request(pat_request())
    text = visible_text(await partner_site.http.get(ACME_PAGE))
    assert ("Partner Ltd (as stated by the requester)" in text) is is_stated
