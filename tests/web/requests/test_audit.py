"""The audit trail of a request: what the pages record, and who is shown as having decided."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import NoResponse, Rejected, Unavailable
from smart_accounts.store.audit import Action, Actor, Agreement, Origin, Role
from smart_accounts.web.requests.labels import ACTION_LABELS, ROLE_LABELS
from smart_accounts.web.requests.timeline import Snapshot, timeline
from tests.support.page_content import visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import OPERATOR, PAT

NOW = datetime.now(UTC)
AT = NOW - timedelta(days=3)
NOWHERE = Origin(client_address=None, user_agent=None)
CUSTOMER = Actor(role=Role.CUSTOMER, email="ada@acme.example")


async def events_of(site: PartnerSite, run: str) -> list[tuple[str, str, str | None]]:
    events = await site.store.audit.of_request(run)
    return [(event.action, event.role, event.email) for event in events]


async def last_step(site: PartnerSite, run: str) -> str:
    snapshot = await Snapshot.load(site.store, run)
    assert snapshot
    return timeline(snapshot, None)[-1].lines[0]


async def test_actions_are_recorded_with_their_person(partner_site: PartnerSite) -> None:
    form = {**FORM, "form_id": "one"}
    for _ in range(2):
        await partner_site.post("/requests", **form)
    [run] = await partner_site.store_running_requests()
    await partner_site.post(f"{ACME_PAGE}/resend")
    await partner_site.sign_in(OPERATOR)
    await partner_site.post(f"{ACME_PAGE}/replace-approver", customer_email="cy@acme.example")
    await partner_site.post(f"{ACME_PAGE}/withdraw")
    assert await events_of(partner_site, run) == [
        ("send", "requester", PAT.email),
        ("resend", "requester", PAT.email),
        ("replace-approver", "operator", OPERATOR.email),
        ("withdraw", "operator", OPERATOR.email),
    ]


async def test_adoption_is_recorded(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), owner=None)
    headers = {"User-Agent": "Fire\x01fox" + "x" * 400}
    await partner_site.http.get(ACME_PAGE, headers=headers)
    [event] = await partner_site.store.audit.of_request(run)
    assert (event.action, event.email) == (Action.ADOPT, PAT.email)
    assert event.client_address == "127.0.0.1"
    assert event.user_agent == "Fire\ufffdfox" + "x" * 292


async def test_rejected_action_is_not_recorded(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    partner_site.temporal.action_error = Rejected("Too late.")
    assert (await partner_site.post(f"{ACME_PAGE}/withdraw")).status_code == 409
    assert await events_of(partner_site, run) == []


async def test_action_without_a_response_is_recorded(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    partner_site.temporal.action_error = NoResponse("No response yet.")
    assert (await partner_site.post(f"{ACME_PAGE}/withdraw")).status_code == 503
    partner_site.temporal.action_error = Unavailable("Temporal does not respond.")
    assert (await partner_site.post(f"{ACME_PAGE}/resend")).status_code == 503
    assert await events_of(partner_site, run) == [("withdraw", "requester", PAT.email)]


async def test_action_is_done_although_the_audit_trail_is_down(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = await partner_site.add_request(pat_request())

    async def fail(*_: object) -> None:
        raise Unavailable("The database does not respond.")

    monkeypatch.setattr(partner_site.store.audit, "record", fail)
    assert (await partner_site.post(f"{ACME_PAGE}/withdraw")).status_code == 303
    assert f"lacks the withdraw of request {run}" in caplog.text


async def test_operator_closes_the_account_of_an_own_request(partner_site: PartnerSite) -> None:
    request = pat_request(requester=OPERATOR.requester)
    run = await partner_site.add_request(request, owner=OPERATOR.identity)
    accepted = Decision(status=Status.ACTIVE, at=NOW, by=request.customer_email)
    await partner_site.record_decision(run, accepted)
    await partner_site.sign_in(OPERATOR)
    await partner_site.post(f"{ACME_PAGE}/close", reason="Fraud.")
    assert await events_of(partner_site, run) == [("close", "operator", OPERATOR.email)]


async def test_only_operators_see_the_audit_trail(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    await partner_site.post(f"{ACME_PAGE}/resend")
    agreement = Agreement(link_ordinal=1, text="I accept the <b>account</b>.")
    origin = Origin(client_address="192.0.2.7", user_agent="Firefox <i>")
    await partner_site.store.audit.record(Action.ACCEPT, CUSTOMER, origin, run, agreement)
    shown = (
        "Audit trail",
        "Requester: Pat Lee, pat@partner.example",
        "Customer: ada@acme.example, through activation link 1",
        "I accept the <b>account</b>.",
        "192.0.2.7 · Firefox <i>",
    )
    page = visible_text(await partner_site.http.get(ACME_PAGE))
    assert not any(words in page for words in shown)
    await partner_site.sign_in(OPERATOR)
    page = visible_text(await partner_site.http.get(ACME_PAGE))
    assert [words for words in shown if words not in page] == []


async def test_operators_withdrawal_is_shown_as_the_operators(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    await partner_site.sign_in(OPERATOR)
    await partner_site.post(f"{ACME_PAGE}/withdraw", reason="Duplicate.")
    await partner_site.record_decision(
        run, Decision(status=Status.WITHDRAWN, at=NOW, by="operator")
    )
    assert await last_step(partner_site, run) == "By an operator. No account was opened."


@pytest.mark.parametrize(
    ("status", "by", "action", "shown"),
    [
        (Status.ACTIVE, "eve@evil.example", Action.ACCEPT, "By ada@acme.example."),
        (Status.DECLINED, "customer", Action.DECLINE, "By ada@acme.example. No account"),
        (Status.WITHDRAWN, "requester", Action.WITHDRAW, "By Pat Lee, Partner Ltd. No account"),
    ],
)
async def test_decision_that_the_audit_trail_proves(
    partner_site: PartnerSite, status: Status, by: str, action: Action, shown: str
) -> None:
    run = await partner_site.add_request(pat_request(), at=AT)
    await partner_site.record_decision(run, Decision(status=status, at=NOW, by=by))
    assert "as stated by the client" in await last_step(partner_site, run)
    person = CUSTOMER
    if action is Action.WITHDRAW:
        person = replace(CUSTOMER, role=Role.REQUESTER, email=PAT.email, identity=PAT.identity)
    superseded = Agreement(link_ordinal=2)
    await partner_site.store.audit.record(action, person, NOWHERE, run, superseded)
    assert "as stated by the client" in await last_step(partner_site, run)
    in_force = Agreement(link_ordinal=1)
    await partner_site.store.audit.record(action, person, NOWHERE, run, in_force)
    assert (await last_step(partner_site, run)).startswith(shown)


def test_every_action_and_role_has_a_label() -> None:
    assert ACTION_LABELS.keys() == set(Action)
    assert ROLE_LABELS.keys() == set(Role)


async def test_page_changes_when_an_event_is_recorded(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())

    async def version() -> Any:
        snapshot = await Snapshot.load(partner_site.store, run)
        return snapshot and snapshot.version

    before = await version()
    await partner_site.store.audit.record(Action.WITHDRAW, CUSTOMER, NOWHERE, run)
    assert await version() != before
