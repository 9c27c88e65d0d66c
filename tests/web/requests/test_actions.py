"""The actions on the page of a request."""

from datetime import UTC, datetime, timedelta

import pytest

from smart_accounts.contract.actions import ActionMessage, ActionResult, Role
from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import NotFound, Rejected, Unavailable
from tests.support.outages import OPERATORS_WORDS, error_for_operators
from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request

NOW = datetime.now(UTC)
ACTIONS: dict[str, tuple[dict[str, str], str | None, str]] = {
    # the form, the argument that Temporal gets, and the message on the page
    "resend": ({}, None, "A new activation email is on its way."),
    "replace-approver": (
        {"customer_email": "eve@acme.example"},
        "eve@acme.example",
        "An activation email to the new approver is on its way.",
    ),
    "withdraw": ({"reason": "Typo.\r\n"}, "Typo.", "The request is withdrawn."),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_result_of_an_action_is_shown_once(partner_site: PartnerSite, action: str) -> None:
    run = await partner_site.add_request(pat_request())
    form, argument, message = ACTIONS[action]
    response = await partner_site.post(f"{ACME_PAGE}/{action}?run={run}", **form)
    assert (response.status_code, response.headers["location"]) == (303, f"{ACME_PAGE}?run={run}")
    assert {"HttpOnly", "SameSite=lax"} <= set(response.headers["set-cookie"].split("; "))
    assert partner_site.actions == [(action, argument)]
    assert message in visible_text(await partner_site.http.get(ACME_PAGE))
    assert message not in visible_text(await partner_site.http.get(ACME_PAGE))


@pytest.mark.parametrize("partner_site", ["https://accounts.example"], indirect=True)
async def test_cookie_with_the_result_is_secure(partner_site: PartnerSite) -> None:
    await partner_site.add_request(pat_request())
    response = await partner_site.post(f"{ACME_PAGE}/resend")
    assert "Secure" in response.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("Too late: the request is already lapsed."), 409),
        (NotFound("There is no open request there."), 409),
        (Unavailable("No answer yet. It may still be done."), 503),
        (BadInput([FieldError(field="customer_email", message="must differ")]), 422),
    ],
)
async def test_failed_action_shows_why_and_keeps_the_input(
    partner_site: PartnerSite, action: str, error: Exception, status: int
) -> None:
    run = await partner_site.add_request(pat_request())
    partner_site.temporal.error = error
    form, _, _ = ACTIONS[action]
    response = await partner_site.post(f"{ACME_PAGE}/{action}?run={run}", **form)
    assert response.status_code == status
    message = "must differ." if status == 422 else str(error)
    assert visible_text(response).count(message) == 2
    assert f'<details id="{action}" open>' in response.text
    assert ("retry-after" in response.headers) is (status == 503)
    for value in form.values():
        assert value.strip() in response.text


@pytest.mark.parametrize("name", OPERATORS_WORDS)
async def test_only_operators_are_told_what_to_check(
    partner_site: PartnerSite, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    await partner_site.add_request(pat_request())
    partner_site.temporal.error = error_for_operators(name)
    for path, message in [
        (f"{ACME_PAGE}/resend", "is down right now. Nothing was lost; try again later."),
        ("/requests", "Send Request again"),
    ]:
        caplog.clear()
        response = await partner_site.post(path, **FORM)
        assert response.status_code == 503
        assert message in visible_text(response)
        assert OPERATORS_WORDS[name] not in visible_text(response)
        assert OPERATORS_WORDS[name] in caplog.text


@pytest.mark.parametrize(
    ("action", "form", "words"),
    [
        ("replace-approver", {}, "New approver's email must be one email address"),
        ("replace-approver", {"customer_email": "a@b, c@d"}, "must be one email address"),
        ("withdraw", {"reason": "x" * 1025}, "The reason must have at most 1024 characters."),
    ],
)
async def test_invalid_input_is_not_sent_to_temporal(
    partner_site: PartnerSite, action: str, form: dict[str, str], words: str
) -> None:
    await partner_site.add_request(pat_request())
    response = await partner_site.post(f"{ACME_PAGE}/{action}", **form)
    assert response.status_code == 422
    assert words in visible_text(response)
    assert not partner_site.temporal.actions


@pytest.mark.parametrize("status", [status for status in Status if status.is_final])
async def test_ended_request_has_no_actions(partner_site: PartnerSite, status: Status) -> None:
    run = await partner_site.add_request(pat_request())
    await partner_site.record_decision(
        run, Decision(status=status, at=NOW - timedelta(hours=2), reason="Why.")
    )
    response = await partner_site.http.get(ACME_PAGE)
    assert "<details" not in response.text
    assert "live.js" not in response.text
    assert ("request a new Smart Account" in visible_text(response)) is (
        status is not Status.ACTIVE
    )


async def withdraw_in_store(site: PartnerSite, run: str, by: Role) -> None:
    decision = Decision(status=Status.WITHDRAWN, at=NOW - timedelta(hours=2), by=by)
    await site.record_decision(run, decision)


async def test_withdrawal_again_succeeds(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    await withdraw_in_store(partner_site, run, Role.REQUESTER)
    response = await partner_site.post(f"{ACME_PAGE}/withdraw?run={run}", reason="Typo.")
    assert response.status_code == 303
    message = "The request was already withdrawn. Nothing was changed."
    assert message in visible_text(await partner_site.http.get(ACME_PAGE))
    assert partner_site.actions == []
    assert not await partner_site.store.audit.of_request(run)


@pytest.mark.parametrize("action", ACTIONS)
async def test_action_after_an_operators_withdrawal_is_told(
    partner_site: PartnerSite, action: str
) -> None:
    run = await partner_site.add_request(pat_request())
    await withdraw_in_store(partner_site, run, Role.OPERATOR)
    response = await partner_site.post(f"{ACME_PAGE}/{action}?run={run}", **ACTIONS[action][0])
    assert response.status_code == 409
    assert "Too late: the request is already withdrawn." in visible_text(response)
    assert partner_site.actions == []


async def test_present_approver_again_succeeds(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    message = ActionMessage.SAME_APPROVER
    partner_site.temporal.action_result = ActionResult(status=Status.PENDING, message=message)
    form = {"customer_email": "ada@acme.example"}
    response = await partner_site.post(f"{ACME_PAGE}/replace-approver", **form)
    assert response.status_code == 303
    text = visible_text(await partner_site.http.get(ACME_PAGE))
    assert message in text
    assert "is on its way" not in text
    assert not await partner_site.store.audit.of_request(run)
