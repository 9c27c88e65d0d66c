"""An operator reviews unusual requests on the pages."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from smart_accounts.contract.actions import Role
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Approve, Decision
from smart_accounts.errors import Rejected
from smart_accounts.store.sessions import Partner
from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, PartnerSite, pat_request
from tests.support.partners import KIM, OPERATOR

ODD = ("The customer's address is not at the account's domain.",)
REVIEWS: dict[str, tuple[dict[str, str], str | None, str]] = {
    # the form, the reason that Temporal gets, and the message on the page
    "approve": ({}, None, "The request is approved."),
    "reject": ({"reason": "Unknown."}, "Unknown.", "The request is rejected."),
}


async def add_odd_request(site: PartnerSite) -> str:
    return await site.add_request(pat_request(), needs_attention=ODD, is_approved=False)


@pytest.mark.parametrize("action", REVIEWS)
async def test_operator_reviews_a_request(partner_site: PartnerSite, action: str) -> None:
    run = await add_odd_request(partner_site)
    await partner_site.sign_in(OPERATOR)
    form, reason, message = REVIEWS[action]
    response = await partner_site.post(f"{ACME_PAGE}/{action}?run={run}", **form)
    assert (response.status_code, response.headers["location"]) == (303, f"{ACME_PAGE}?run={run}")
    assert partner_site.actions == [(action, reason)]
    assert message in visible_text(await partner_site.http.get(ACME_PAGE))


@pytest.mark.parametrize("action", REVIEWS)
async def test_only_another_operator_reviews(partner_site: PartnerSite, action: str) -> None:
    await add_odd_request(partner_site)
    form, _, _ = REVIEWS[action]
    assert (await partner_site.post(f"{ACME_PAGE}/{action}", **form)).status_code == 403
    await partner_site.sign_in(KIM)
    assert (await partner_site.post(f"{ACME_PAGE}/{action}", **form)).status_code == 404
    await partner_site.sign_in(OPERATOR)
    own = pat_request("own.example", requester=OPERATOR.requester)
    await partner_site.add_request(
        own, needs_attention=ODD, is_approved=False, owner=OPERATOR.identity
    )
    path = f"/requests/smart-account-own.example/{action}"
    assert (await partner_site.post(path, **form)).status_code == 403
    await partner_site.add_request(
        pat_request("older.example", requester=OPERATOR.requester),
        needs_attention=ODD,
        is_approved=False,
        owner=None,
    )
    await partner_site.sign_in(replace(OPERATOR, email_verified=False))  # adopts nothing
    path = f"/requests/smart-account-older.example/{action}"
    assert (await partner_site.post(path, **form)).status_code == 403
    assert partner_site.actions == []


async def test_rejection_needs_a_reason(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    await partner_site.sign_in(OPERATOR)
    response = await partner_site.post(f"{ACME_PAGE}/reject", reason=" ")
    assert response.status_code == 422
    assert "The reason is required to reject." in visible_text(response)
    assert partner_site.actions == []


@pytest.mark.parametrize("action", REVIEWS)
async def test_review_again_succeeds(partner_site: PartnerSite, action: str) -> None:
    run = await add_odd_request(partner_site)
    await partner_site.sign_in(OPERATOR)
    at = datetime.now(UTC)
    if action == "approve":
        await partner_site.store.requests.approve(Approve(request_id=run, at=at))
    ends_as = Status.DECLINED if action == "approve" else Status.REJECTED
    await partner_site.record_decision(run, Decision(status=ends_as, at=at))
    for each, (form, *_) in REVIEWS.items():
        response = await partner_site.post(f"{ACME_PAGE}/{each}", **form)
        assert response.status_code == (303 if each == action else 409)
        shown = response if each != action else await partner_site.http.get(ACME_PAGE)
        done = "approved" if action == "approve" else "rejected"
        expected = f"was already {done}" if each == action else f"already {ends_as}"
        assert expected in visible_text(shown)
    assert partner_site.actions == []


async def test_other_decision_is_told_what_was_decided(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    await partner_site.sign_in(OPERATOR)
    partner_site.temporal.error = Rejected("Too late: an operator has already rejected it.")
    response = await partner_site.post(f"{ACME_PAGE}/approve")
    assert response.status_code == 409
    assert "already rejected it" in visible_text(response)


@pytest.mark.parametrize("is_in_review", [True, False])
async def test_reason_stays_in_its_form(partner_site: PartnerSite, is_in_review: bool) -> None:
    await partner_site.add_request(pat_request(), needs_attention=ODD, is_approved=not is_in_review)
    await partner_site.sign_in(OPERATOR)
    partner_site.temporal.error = Rejected("Too late: an operator has already approved it.")
    page = (await partner_site.post(f"{ACME_PAGE}/reject", reason='"Unknown."')).text
    assert ('href="#reject"' in page) is ('id="reject"' in page) is is_in_review
    assert ('href="#progress"' in page) is not is_in_review
    assert page.count("&#34;Unknown.&#34;</textarea>") == is_in_review
    _, _, withdrawal = page.partition('id="withdraw-reason"')
    assert withdrawal.partition("</textarea>")[0].endswith(">\n")


async def test_requester_sees_the_review_and_can_only_withdraw(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    text = visible_text(await partner_site.http.get(ACME_PAGE))
    assert ODD[0] in text
    assert "An operator reviews it by" in text
    for hidden in ("Approve the request", "Send the activation email again", "Replace the"):
        assert hidden not in text
    assert "Withdraw the request" in text


async def test_queue_shows_how_many_wait(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    await partner_site.add_request(pat_request("usual.example"))
    waiting = "1 request waits for your review"
    assert waiting not in visible_text(await partner_site.http.get("/requests"))
    await partner_site.sign_in(OPERATOR)
    assert waiting in visible_text(await partner_site.http.get("/requests"))
    queue = visible_text(await partner_site.http.get("/requests?status=in_review"))
    assert "acme.example" in queue
    assert "usual.example" not in queue


async def test_only_operators_see_reports_and_contests(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    await partner_site.temporal.start(pat_request(), key="pat")
    await partner_site.sign_in(KIM)
    form = {"account_name": "Acme", "customer_email": "ada@acme.example", "form_id": "x"}
    response = await partner_site.submit("/requests", **form)
    assert response.status_code == 409
    await partner_site.sign_in(OPERATOR)
    assert "Contested" in visible_text(await partner_site.http.get(ACME_PAGE))
    assert "Contested" in visible_text(await partner_site.http.get("/requests"))


@pytest.mark.parametrize(("partner", "role"), [(None, Role.REQUESTER), (OPERATOR, Role.OPERATOR)])
async def test_actions_name_who_acts(
    partner_site: PartnerSite, partner: Partner | None, role: Role
) -> None:
    await partner_site.add_request(pat_request())
    if partner:
        await partner_site.sign_in(partner)
    for action, form in (
        ("resend", {}),
        ("replace-approver", {"customer_email": "cy@acme.example"}),
        ("withdraw", {}),
    ):
        await partner_site.post(f"{ACME_PAGE}/{action}", **form)
    assert [by.role for by in partner_site.temporal.actors if by] == [role] * 3


async def test_list_can_be_filtered_by_review(partner_site: PartnerSite) -> None:
    await add_odd_request(partner_site)
    page = await partner_site.http.get(f"/requests?status={Status.IN_REVIEW}")
    assert "In review" in visible_text(page)
