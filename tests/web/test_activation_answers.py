"""Accepting and declining on the activation page."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any

import pytest

from smart_accounts.errors import Unavailable
from tests.support.page_content import visible_text
from tests.support.site import AGREED, Site


async def test_acceptance_is_signalled_once_to_its_run(site: Site) -> None:
    token = await site.add_request()
    for _ in range(3):
        assert (await site.http.post(f"/activate/{token}", data=AGREED)).status_code == 303
    sent = {
        "workflow_id": "smart-account-acme.example",
        "run_id": site.request_id,
        "link": 1,
    }
    assert site.temporal.signals == [("accepted", {**sent, "accepted_by": "ada@acme.example"})]
    assert (await site.stored_request()).signalled == "accepted"


async def test_evidence_of_an_acceptance(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    token = await site.add_request(account_name="Acme {account_domain} <b>")
    page = visible_text(await site.http.get(f"/activate/{token}"))
    recorded_first: list[str] = []

    async def accept(workflow_id: str, **sent: Any) -> None:
        events = await site.store.audit.of_request(site.request_id)
        recorded_first.extend(event.action for event in events)

    monkeypatch.setattr(site.temporal, "accept", accept)
    headers = {"User-Agent": "Fire\tfox" + "x" * 400}
    before = datetime.now(UTC)
    await site.http.post(f"/activate/{token}", data=AGREED, headers=headers)
    assert recorded_first == ["accept"]
    [event] = await site.store.audit.of_request(site.request_id)
    assert before <= event.at <= datetime.now(UTC)
    assert (event.role, event.email, event.link_ordinal) == ("customer", "ada@acme.example", 1)
    assert (event.client_address, event.user_agent) == ("127.0.0.1", "Fire\ufffdfox" + "x" * 292)
    assert event.agreed_text == (
        "I am authorised to act for my company, and I accept the Smart Account"
        " Acme {account_domain} <b> for acme.example."
    )
    assert event.agreed_text.replace(" ", "") in page.replace(" ", "")


async def test_decline_is_recorded(site: Site) -> None:
    token = await site.add_request()
    await site.http.post(f"/activate/{token}/decline", data={"reason": "No."})
    [event] = await site.store.audit.of_request(site.request_id)
    assert (event.action, event.role, event.link_ordinal) == ("decline", "customer", 1)
    assert event.agreed_text is None


@pytest.mark.parametrize("path", ["", "/decline"])
async def test_answer_without_evidence_is_not_signalled(site: Site, path: str) -> None:
    token = await site.add_request()
    site.store.audit.error = Unavailable("the database does not respond")
    response = await site.http.post(f"/activate/{token}{path}", data=AGREED)
    assert response.status_code == 503
    assert "Nothing was lost" in response.text
    assert not site.temporal.signals
    site.store.audit.error = None
    assert (await site.http.post(f"/activate/{token}{path}", data=AGREED)).status_code == 303


@pytest.mark.parametrize("form", [{}, {"agree": "no"}, {"agree": ""}, {"Agree": "yes"}])
async def test_accepting_needs_the_check_box(site: Site, form: dict[str, str]) -> None:
    token = await site.add_request()
    response = await site.http.post(f"/activate/{token}", data=form)
    assert response.status_code == 422
    assert "Tick this box" in response.text
    assert "Pat Lee" in response.text
    assert not site.temporal.signals


@pytest.mark.parametrize(
    ("reason", "sent"),
    [
        (None, None),
        ("", None),
        ("  \r\n ", None),
        ("Not us.\r\nSorry.", "Not us.\nSorry."),
        ("é" * 1024, "é" * 1024),
    ],
)
async def test_decline_sends_its_reason(site: Site, reason: str | None, sent: str | None) -> None:
    token = await site.add_request()
    form = {} if reason is None else {"reason": reason}
    response = await site.http.post(f"/activate/{token}/decline", data=form)
    assert response.status_code == 303
    [(name, signal)] = site.temporal.signals
    assert (name, signal["reason"]) == ("declined", sent)
    assert signal["run_id"] == site.request_id


@pytest.mark.parametrize(("form", "report"), [({}, False), ({"report": "yes"}, True)])
async def test_decline_can_report_the_request(
    site: Site, form: dict[str, str], report: bool
) -> None:
    token = await site.add_request()
    await site.http.post(f"/activate/{token}/decline", data=form)
    [(_, signal)] = site.temporal.signals
    assert signal["report"] is report


async def test_rejected_reason_keeps_the_report(site: Site) -> None:
    token = await site.add_request()
    form = {"reason": "x" * 1025, "report": "yes"}
    response = await site.http.post(f"/activate/{token}/decline", data=form)
    assert 'name="report" value="yes" checked' in response.text


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("x" * 1025, "The reason must have at most 1024 characters."),
        ("bell \x07<i>", "The reason must not contain control"),
        ("\u202eoverride", "The reason must not contain control"),
    ],
)
async def test_invalid_reason_gets_one_message_and_is_kept(
    site: Site, reason: str, message: str
) -> None:
    token = await site.add_request()
    response = await site.http.post(f"/activate/{token}/decline", data={"reason": reason})
    assert response.status_code == 422
    assert response.text.count('class="error"') == 1
    assert message in response.text
    assert reason.replace("<i>", "&lt;i&gt;") in response.text
    assert not site.temporal.signals


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://127.0.0.1"},
        {"Origin": "{url}.evil.example"},
        {"Origin": "https://{host}"},
        {"Referer": "https://evil.example/page"},
        {"Referer": "rubbish"},
        {"Origin": "{url}", "Referer": "https://evil.example/"},
    ],
)
@pytest.mark.parametrize("path", ["", "/decline"])
async def test_another_site_cannot_answer(site: Site, headers: dict[str, str], path: str) -> None:
    token = await site.add_request()
    host = site.url.removeprefix("http://")
    sent = {name: value.format(url=site.url, host=host) for name, value in headers.items()}
    response = await site.http.post(f"/activate/{token}{path}", data=AGREED, headers=sent)
    assert response.status_code == 403
    assert not site.temporal.signals


@pytest.mark.parametrize("headers", [{}, {"Origin": "{url}"}, {"Referer": "{url}/activate/x"}])
async def test_own_site_and_programs_can_answer(site: Site, headers: dict[str, str]) -> None:
    token = await site.add_request()
    sent = {name: value.format(url=site.url) for name, value in headers.items()}
    response = await site.http.post(f"/activate/{token}", data=AGREED, headers=sent)
    assert response.status_code == 303


@pytest.mark.parametrize("declared", [True, False])
async def test_too_large_body_is_not_read(site: Site, declared: bool) -> None:
    token = await site.add_request()
    chunks_read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal chunks_read
        for _ in range(100):
            chunks_read += 1
            yield b"x" * 1024

    body = b"reason=" + b"x" * 16 * 1024 if declared else chunks()
    response = await site.http.post(f"/activate/{token}/decline", content=body)
    assert response.status_code == 413
    assert "has too much text" in response.text
    assert chunks_read < 20
