"""Sending a request, and the page that follows."""

from datetime import UTC, datetime
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.temporal.records import RunningRequest
from tests.support.page_content import hidden_fields, visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import KIM

NOW = datetime.now(UTC)


async def test_sending_twice_creates_one_request(partner_site: PartnerSite) -> None:
    form = hidden_fields(await partner_site.submit("/requests/review", **FORM))
    responses = [await partner_site.post("/requests", **form) for _ in range(2)]
    await partner_site.store_running_requests()
    partner_site.temporal.running.clear()  # the run has ended, but the store has its key
    responses.append(await partner_site.post("/requests", **form))
    assert {response.status_code for response in responses} == {303}
    assert len({response.headers["location"] for response in responses}) == 1
    assert (await partner_site.store.listing.page(owner=None)).total == 1


async def test_changed_form_creates_another_request(partner_site: PartnerSite) -> None:
    form = hidden_fields(await partner_site.submit("/requests/review", **FORM))
    first = await partner_site.post("/requests", **form)
    second = await partner_site.post("/requests", **form | {"account_domain": "sub.acme.example"})
    assert first.headers["location"] != second.headers["location"]
    assert len(partner_site.temporal.running) == 2


async def test_reloading_the_review_creates_no_second_request(partner_site: PartnerSite) -> None:
    form = await partner_site.open_form()
    typed = FORM | {"form_id": hidden_fields(form)["form_id"]}
    reviews = [await partner_site.submit("/requests/review", **typed) for _ in range(2)]
    sent = [await partner_site.post("/requests", **hidden_fields(review)) for review in reviews]
    assert sent[0].headers["location"] == sent[1].headers["location"]


async def test_complete_page_waits_for_the_provisional_account(partner_site: PartnerSite) -> None:
    sent = await partner_site.post("/requests", **FORM)
    url = sent.headers["location"]
    waiting = await partner_site.http.get(url)
    assert (waiting.status_code, waiting.headers["refresh"]) == (200, "2")
    assert "We have received your request" in visible_text(waiting)
    assert "provisional" not in visible_text(waiting)
    assert "Requested" in visible_text(await partner_site.http.get(url.replace("/complete", "")))
    await partner_site.store_running_requests()
    for _ in range(2):  # also after a reload
        complete = await partner_site.http.get(url)
        assert "Smart Account Request Complete" in visible_text(complete)
        assert "provisional Smart Account was created" in visible_text(complete)
        assert "refresh" not in complete.headers
    [(running, _)] = partner_site.temporal.running.values()
    run = running.request_id
    await partner_site.record_decision(run, Decision(status=Status.DECLINED, at=NOW))
    ended = await partner_site.http.get(url)
    assert (ended.status_code, ended.headers["location"]) == (303, f"{ACME_PAGE}?run={run}")


@pytest.mark.parametrize("has_ended", [False, True])
async def test_request_that_is_stored_during_the_lookup(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    find_running = partner_site.temporal.find_running

    async def find_late(*args: Any, **run: Any) -> RunningRequest:
        [run_id] = await partner_site.store_running_requests()
        if has_ended:
            await partner_site.record_decision(run_id, Decision(status=Status.WITHDRAWN, at=NOW))
            raise NotFound("no request is open there")
        return await find_running(*args, **run)

    url = (await partner_site.post("/requests", **FORM)).headers["location"]
    monkeypatch.setattr(partner_site.temporal, "find_running", find_late)
    response = await partner_site.http.get(url.replace("/complete", ""))
    assert response.status_code == 200
    assert ("Withdrawn" if has_ended else "Requested") in visible_text(response)


@pytest.mark.parametrize("run", ["", "x", "0" * 36, "31f29747-2ef2-4962-8f4e-bfebe2e291ed"])
async def test_unknown_run_is_not_found(partner_site: PartnerSite, run: str) -> None:
    for path in (
        f"{ACME_PAGE}?run={run}",
        f"{ACME_PAGE}/complete?run={run}",
        f"{ACME_PAGE}/events?run={run}",
    ):
        assert (await partner_site.http.get(path)).status_code == 404


async def test_taken_domain_shows_what_to_do(partner_site: PartnerSite) -> None:
    run = await partner_site.add_request(pat_request())
    await partner_site.record_decision(
        run, Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example")
    )
    response = await partner_site.submit("/requests", **FORM)
    assert response.status_code == 409
    for words in (
        "already has an active Smart Account",
        "You requested that account yourself",
        "contact support",
    ):
        assert words in visible_text(response)
    assert f"{ACME_PAGE}?run={run}" in response.text
    assert 'value="ada@acme.example"' in response.text
    await partner_site.sign_in(KIM)
    response = await partner_site.submit("/requests", **FORM)
    assert response.status_code == 409
    assert "yourself" not in visible_text(response)
    assert run not in response.text


async def test_domain_with_an_open_request_is_rejected(partner_site: PartnerSite) -> None:
    await partner_site.temporal.start(pat_request(), key="another")
    response = await partner_site.submit("/requests", **FORM)
    assert response.status_code == 409
    assert "A request for acme.example is already under way." in visible_text(response)


async def test_outage_page_sends_the_same_form_again(partner_site: PartnerSite) -> None:
    form = hidden_fields(await partner_site.submit("/requests/review", **FORM))
    partner_site.temporal.error = Unavailable("no")
    response = await partner_site.post("/requests", **form)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "Send Request again" in visible_text(response)
    assert "Nothing is requested until" not in visible_text(response)
    again = hidden_fields(response)
    assert again == form
    partner_site.temporal.error = None
    sent = await partner_site.post("/requests", **again)
    assert (
        sent.headers["location"]
        == (await partner_site.post("/requests", **form)).headers["location"]
    )
