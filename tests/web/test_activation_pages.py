"""The activation page in every state of a request."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.tokens import LinkTokens
from tests.support.page_content import visible_text
from tests.support.site import AGREED, OpenSite, Site

NOW = datetime.now(UTC)
PAST = NOW - timedelta(seconds=1)
ACCEPTED: dict[str, Any] = {"signalled": "accepted"}
ACTIVE: dict[str, Any] = {"status": Status.ACTIVE, "signalled": "accepted", "decided_at": NOW}
DECLINED: dict[str, Any] = {"status": Status.DECLINED, "reason": "Not us.", "decided_at": NOW}
Expected = tuple[int, str]
"""The status of a response and words on its page."""

STATES: dict[str, tuple[dict[str, Any], Expected, Expected, Expected]] = {
    # for each state: what is stored, and what is expected for reading, accepting and declining
    "open": ({}, (200, "Accept a Smart Account"), (303, ""), (303, "")),
    "not yet pending": ({"status": Status.REQUESTED}, (200, "days left"), (303, ""), (303, "")),
    "accepting": (
        ACCEPTED,
        (200, "We have received your acceptance"),
        (303, ""),
        (409, "already accepted"),
    ),
    "declining": (
        {"signalled": "declined"},
        (200, "We have received your answer"),
        (409, "already declined"),
        (303, ""),
    ),
    "accepting, after the deadline": (
        {**ACCEPTED, "deadline": PAST},
        (200, "We have received your acceptance"),
        (303, ""),
        (409, "already accepted"),
    ),
    "activating": (
        {"status": Status.ACTIVATING},
        (200, "We have received your acceptance"),
        (303, ""),
        (409, "already accepted"),
    ),
    "active": (ACTIVE, (200, "Smart Account is active"), (303, ""), (409, "already accepted")),
    "declined": (DECLINED, (200, "You declined"), (409, "already declined"), (303, "")),
    "deadline passed": (
        {"deadline": PAST},
        (410, "The deadline has passed"),
        (410, "The deadline has passed"),
        (410, "The deadline has passed"),
    ),
    **{
        status.value: (
            {"status": status, "signalled": "accepted", "decided_at": NOW},
            (410, words),
            (410, words),
            (410, words),
        )
        for status, words in [
            (Status.LAPSED, "has lapsed"),
            (Status.WITHDRAWN, "was withdrawn"),
            (Status.UNDELIVERABLE, "could not be delivered"),
            (Status.REJECTED, "was rejected"),
        ]
    },
    "superseded": (
        {"link_ordinal": 2},
        (410, "There is a newer link"),
        (410, "There is a newer link"),
        (410, "There is a newer link"),
    ),
    "superseded and active": (
        {**ACTIVE, "link_ordinal": 2},
        (410, "There is a newer link"),
        (410, "There is a newer link"),
        (410, "There is a newer link"),
    ),
}


@pytest.mark.parametrize("state", STATES)
async def test_responses_in_every_state(site: Site, state: str) -> None:
    stored, read, accept, decline = STATES[state]
    for method, path, form, (status, words) in [
        ("GET", "", None, read),
        ("POST", "", AGREED, accept),
        ("POST", "/decline", {}, decline),
    ]:
        token = await site.add_request(**stored)
        before = len(site.temporal.signals)
        response = await site.http.request(method, f"/activate/{token}{path}", data=form)
        assert (response.status_code, words in response.text) == (status, True), (method, path)
        is_first_answer = method == "POST" and state in ("open", "not yet pending")
        assert len(site.temporal.signals) == before + is_first_answer
        if status == 303:
            assert response.headers["location"] == f"/activate/{token}"


async def test_page_shows_the_request(site: Site) -> None:
    token = await site.add_request(deadline=datetime(2090, 1, 2, 3, 4, tzinfo=UTC))
    text = (await site.http.get(f"/activate/{token}")).text
    for words in [
        "Pat Lee",
        "Partner Ltd",
        "pat@partner.example",
        "Acme Networks",
        "acme.example",
        "As agreed on the phone.\nPlease answer soon.",
        "bo@acme.example",
        "cy@acme.example",
        "2090-01-02 03:04 UTC",
        "Welcome aboard.",
        "Example Accounts",
        "service.example/help",
    ]:
        assert words in text


@pytest.mark.parametrize(
    ("left", "words"),
    [
        (timedelta(days=89, hours=23, minutes=59), "90 days left"),
        (timedelta(days=2, minutes=1), "2 days left"),
        (timedelta(days=1, hours=23), "47 hours left"),
        (timedelta(days=1, hours=22, minutes=30), "46 hours left"),
        (timedelta(hours=1, minutes=1), "1 hour left"),
        (timedelta(minutes=59), "less than an hour left"),
    ],
)
async def test_page_shows_the_time_left(site: Site, left: timedelta, words: str) -> None:
    token = await site.add_request(deadline=datetime.now(UTC) + left)
    assert f"<span>{words}</span>" in (await site.http.get(f"/activate/{token}")).text


async def test_page_shows_active_only_once_the_account_is_active(site: Site) -> None:
    token = await site.add_request()
    await site.http.post(f"/activate/{token}", data=AGREED)
    page = await site.http.get(f"/activate/{token}")
    assert "activated" not in page.text.replace("being activated", "")
    assert "Smart Account is active" not in page.text
    assert page.headers["refresh"] == f"2; url=/activate/{token}"
    await site.update_request(status=Status.ACTIVATING)
    assert "Smart Account is active" not in (await site.http.get(f"/activate/{token}")).text
    await site.update_request(status=Status.ACTIVE, decided_at=NOW)
    page = await site.http.get(f"/activate/{token}")
    assert "Smart Account is active" in page.text
    assert "Approver and administrator" in page.text
    assert "refresh" not in page.headers


async def test_unknown_malformed_and_forged_links_get_the_same_response(site: Site) -> None:
    genuine = await site.add_request()
    await site.add_request()
    # The store has the hash of this token, but its key is no longer in use.
    forged = LinkTokens(["a-key-that-was-dropped"]).candidates(site.request_id, 1)[0]
    await site.add_link(forged)
    unknown = LinkTokens(["a-third-key"]).candidates(site.request_id, 1)[0]
    malformed = [genuine[:-1], genuine + "A", "x", "%00", "%ED%A0%80", "é", "a" * 4000]
    tokens = [unknown, forged, *malformed]
    bodies, headers = set(), set()
    for method, path in [("GET", ""), ("POST", ""), ("POST", "/decline")]:
        for token in tokens:
            response = await site.http.request(method, f"/activate/{token}{path}", data=AGREED)
            assert response.status_code == 404
            bodies.add(response.content)
            headers.add(tuple(response.headers.items()))
    bodies.add((await site.http.get("/nowhere")).content)
    assert (len(bodies), len(headers)) == (1, 1)
    assert site.store.links.lookups == 3 * len(tokens)  # each token is looked up
    assert not site.temporal.signals


@pytest.mark.parametrize("glued", ["/", ".", ">", "%3E", "./", ">.", "%3E/"])
async def test_what_a_mail_program_glued_to_the_link_is_ignored(site: Site, glued: str) -> None:
    token = await site.add_request()
    path = f"/activate/{token}"
    page = await site.http.get(path + glued)
    assert page.status_code == 200
    assert f'action="{path}"' in page.text
    assert f'action="{path}/decline"' in page.text
    assert (await site.http.head(path + glued)).status_code == 200
    accepted = await site.http.post(path + glued, data=AGREED)
    assert (accepted.status_code, accepted.headers["Location"]) == (303, path)
    assert [name for name, _ in site.temporal.signals] == ["accepted"]


async def test_every_token_takes_the_same_work(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    is_genuine = LinkTokens.is_genuine

    def record(tokens: LinkTokens, token: str, request_id: str, ordinal: int) -> bool:
        verified.append(token)
        return is_genuine(tokens, token, request_id, ordinal)

    monkeypatch.setattr(LinkTokens, "is_genuine", record)
    presented = [await site.add_request(), "unknown", "x"]
    for token in presented:
        await site.http.get(f"/activate/{token}")
    assert verified == presented


async def test_reading_changes_nothing(site: Site) -> None:
    token = await site.add_request()
    before = await site.all_rows()
    for path in [f"/activate/{token}", f"/activate/{token}/decline"]:
        for method in ["GET", "HEAD"]:
            for _ in range(100):
                response = await site.http.request(method, path)
                assert response.status_code == 200
    get = await site.http.get(f"/activate/{token}", params=AGREED)
    head = await site.http.head(f"/activate/{token}")
    assert head.headers.items() == get.headers.items()
    assert await site.all_rows() == before
    assert not site.temporal.signals


async def test_public_url_may_have_a_path(open_site: OpenSite) -> None:
    async with open_site(public_url="https://service.example/accounts/") as site:
        token = await site.add_request()
        page = await site.http.get(f"/activate/{token}")
        assert f'action="/accounts/activate/{token}"' in page.text
        assert 'href="/accounts/static/style.css"' in page.text
        origin = {"Origin": "https://service.example"}
        response = await site.http.post(f"/activate/{token}", data=AGREED, headers=origin)
        assert response.headers["location"] == f"/accounts/activate/{token}"


async def test_written_text_is_neither_markup_nor_a_link(site: Site) -> None:
    markup = "<script>alert(1)</script> http://evil.example \"'&"
    token = await site.add_request(
        account_name=markup,
        note_to_customer=markup,
        note_to_added_users=markup,
        requester_name=markup,
        requester_company=markup,
        added_users=(markup,),
        customer_email=markup,
    )
    for changes in [
        {"signalled": None},
        ACCEPTED,
        ACTIVE,
        {**DECLINED, "reason": markup},
        {"status": Status.LAPSED},
    ]:
        await site.update_request(**changes)
        text = (await site.http.get(f"/activate/{token}")).text
        assert "<script>" not in text
        assert 'href="http://evil' not in text
        assert "&lt;script&gt;" in text


ENDS = [Status.PENDING, Status.DECLINED, Status.LAPSED, Status.WITHDRAWN]


@pytest.mark.parametrize("status", ENDS)
async def test_company_that_the_requester_stated_is_marked(site: Site, status: Status) -> None:
    for is_stated in (False, True):
        ended = {"decided_at": datetime.now(UTC)} if status.is_final else {}
        token = await site.add_request(status=status, company_is_stated=is_stated, **ended)
        page = visible_text(await site.http.get(f"/activate/{token}"))
        companies = page.count("Partner Ltd")
        assert companies
        assert page.count("Partner Ltd (as stated by the requester") == companies * is_stated
