"""What each link answers to looking, accepting and declining, in every state of a request."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.tokens import LinkTokens

YES = {"agree": "yes"}
NOW = datetime.now(UTC)
PAST = NOW - timedelta(seconds=1)
ACCEPTED: dict[str, Any] = {"signalled": "accepted"}
DECLINED: dict[str, Any] = {"signalled": "declined"}
ACTIVE: dict[str, Any] = {"status": Status.ACTIVE, "signalled": "accepted", "decided_at": NOW}
Answer = tuple[int, str]
REFUSED: dict[str, Any] = {"status": Status.DECLINED, "reason": "Not us.", "decided_at": NOW}

STATES: dict[str, tuple[dict[str, Any], Answer, Answer, Answer]] = {
    # state of the request: what is stored, then (status, words) for look, accept, decline
    "open": ({}, (200, "Accept a Smart Account"), (303, ""), (303, "")),
    "not yet pending": ({"status": Status.REQUESTED}, (200, "days left"), (303, ""), (303, "")),
    "accepted": (
        ACCEPTED,
        (200, "We have received your acceptance"),
        (303, ""),
        (409, "already accepted"),
    ),
    "declined": (
        DECLINED,
        (200, "We have received your answer"),
        (409, "already declined"),
        (303, ""),
    ),
    "accepted, late": (
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
    "active": (ACTIVE, (200, "is activated"), (303, ""), (409, "already accepted")),
    "refused": (REFUSED, (200, "You declined"), (409, "already declined"), (303, "")),
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
            (Status.REJECTED, "was refused"),
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
async def test_every_state_has_its_answers(site: Any, state: str) -> None:
    stored, look, accept, decline = STATES[state]
    for method, path, form, (status, words) in [
        ("GET", "", None, look),
        ("POST", "", YES, accept),
        ("POST", "/decline", {}, decline),
    ]:
        token = await site.issue(**stored)
        before = len(site.temporal.signals)
        answer = await site.http.request(method, f"/activate/{token}{path}", data=form)
        assert (answer.status_code, words in answer.text) == (status, True), (method, path)
        is_news = method == "POST" and look[0] == 200 and state in ("open", "not yet pending")
        assert len(site.temporal.signals) == before + is_news
        if status == 303:
            assert answer.headers["location"] == f"/activate/{token}"


async def test_the_page_says_who_asks_for_what_until_when_and_for_whom(site: Any) -> None:
    token = await site.issue(deadline=datetime(2090, 1, 2, 3, 4, tzinfo=UTC))
    text = (await site.http.get(f"/activate/{token}")).text
    for words in [
        *("Pat Lee", "Partner Ltd", "pat@partner.example", "Acme Networks", "acme.example"),
        *("As agreed on the phone.\nPlease answer soon.", "bo@acme.example", "cy@acme.example"),
        *("2090-01-02 03:04 UTC", "Welcome aboard.", "Example Accounts", "service.example/help"),
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
async def test_the_page_says_how_long_there_is_left(site: Any, left: timedelta, words: str) -> None:
    token = await site.issue(deadline=datetime.now(UTC) + left)
    assert f"<span>{words}</span>" in (await site.http.get(f"/activate/{token}")).text


async def test_an_acceptance_reaches_the_run_it_is_for_and_only_once(site: Any) -> None:
    token = await site.issue()
    for _ in range(3):
        assert (await site.http.post(f"/activate/{token}", data=YES)).status_code == 303
    sent = {"workflow_id": "smart-account-acme.example", "run_id": site.request_id}
    assert site.temporal.signals == [("accepted", {**sent, "accepted_by": "ada@acme.example"})]
    assert (await site.stored()).signalled == "accepted"


async def test_received_turns_to_activated_only_with_the_account(site: Any) -> None:
    token = await site.issue()
    await site.http.post(f"/activate/{token}", data=YES)
    page = await site.http.get(f"/activate/{token}")
    assert "activated" not in page.text.replace("being activated", "")
    assert page.headers["refresh"] == f"2; url=/activate/{token}"
    await site.becomes(status=Status.ACTIVATING)
    assert "is activated" not in (await site.http.get(f"/activate/{token}")).text
    await site.becomes(status=Status.ACTIVE, decided_at=NOW)
    page = await site.http.get(f"/activate/{token}")
    assert "is activated" in page.text
    assert "Approver and administrator" in page.text
    assert "refresh" not in page.headers


@pytest.mark.parametrize("form", [{}, {"agree": "no"}, {"agree": ""}, {"Agree": "yes"}])
async def test_accepting_needs_the_box(site: Any, form: Any) -> None:
    token = await site.issue()
    answer = await site.http.post(f"/activate/{token}", data=form)
    assert answer.status_code == 422
    assert "Tick this box" in answer.text
    assert "Pat Lee" in answer.text
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
async def test_a_decline_carries_its_reason(site: Any, reason: str, sent: Any) -> None:
    token = await site.issue()
    form = {} if reason is None else {"reason": reason}
    answer = await site.http.post(f"/activate/{token}/decline", data=form)
    assert answer.status_code == 303
    (name, said) = site.temporal.signals[0]
    assert (name, said["reason"]) == ("declined", sent)
    assert said["run_id"] == site.request_id


@pytest.mark.parametrize(
    ("reason", "message"),
    [
        ("x" * 1025, "The reason must have at most 1024 characters."),
        ("bell \x07<i>", "The reason must not contain control"),
        ("\u202eoverride", "The reason must not contain control"),
    ],
)
async def test_a_bad_reason_gets_one_message_and_is_kept(
    site: Any, reason: str, message: str
) -> None:
    token = await site.issue()
    answer = await site.http.post(f"/activate/{token}/decline", data={"reason": reason})
    assert answer.status_code == 422
    assert answer.text.count('class="error"') == 1
    assert message in answer.text
    assert reason.replace("<i>", "&lt;i&gt;") in answer.text
    assert not site.temporal.signals


async def test_unknown_malformed_and_forged_links_are_one_to_the_outside(site: Any) -> None:
    genuine = await site.issue()
    await site.issue()
    # Issued under a key that is no longer in use: its hash is stored, its signature is not ours.
    old_key, third_key = LinkTokens(["a-key-that-was-dropped"]), LinkTokens(["a-third-key"])
    forged = old_key.candidates(site.request_id, 1)[0]
    await site.link(forged)
    unknown = third_key.candidates(site.request_id, 1)[0]
    malformed = [genuine[:-1], genuine + "A", "x", "%00", "%ED%A0%80", "é", "a" * 4000]
    tokens = [unknown, forged, *malformed]
    bodies, headers = set(), set()
    for method, path in [("GET", ""), ("POST", ""), ("POST", "/decline")]:
        for token in tokens:
            answer = await site.http.request(method, f"/activate/{token}{path}", data=YES)
            assert answer.status_code == 404
            bodies.add(answer.content)
            headers.add(tuple(answer.headers.items()))
    bodies.add((await site.http.get("/nowhere")).content)
    assert (len(bodies), len(headers)) == (1, 1)
    assert site.store.links.lookups == 3 * len(tokens)  # nothing is told apart before the look-up
    assert not site.temporal.signals


async def test_every_token_costs_the_same_work(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    verified = []
    is_genuine = LinkTokens.is_genuine

    def remembers(tokens: LinkTokens, token: str, request_id: str, ordinal: int) -> bool:
        verified.append(token)
        return is_genuine(tokens, token, request_id, ordinal)

    monkeypatch.setattr(LinkTokens, "is_genuine", remembers)
    presented = [await site.issue(), "unknown", "x"]
    for token in presented:
        await site.http.get(f"/activate/{token}")
    assert verified == presented


async def test_looking_changes_nothing(site: Any) -> None:
    token = await site.issue()
    before = await site.everything()
    for path in [f"/activate/{token}", f"/activate/{token}/decline"]:
        for method in ["GET", "HEAD"]:
            for _ in range(100):
                answer = await site.http.request(method, path)
                assert answer.status_code == 200
    got = await site.http.get(f"/activate/{token}", params=YES)
    head = await site.http.head(f"/activate/{token}")
    assert head.headers.items() == got.headers.items()
    assert await site.everything() == before
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
async def test_another_site_can_not_answer(site: Any, headers: dict[str, str], path: str) -> None:
    token = await site.issue()
    host = site.url.removeprefix("http://")
    sent = {name: value.format(url=site.url, host=host) for name, value in headers.items()}
    answer = await site.http.post(f"/activate/{token}{path}", data=YES, headers=sent)
    assert answer.status_code == 403
    assert not site.temporal.signals


@pytest.mark.parametrize("headers", [{}, {"Origin": "{url}"}, {"Referer": "{url}/activate/x"}])
async def test_our_own_site_can_answer_and_so_can_a_program(
    site: Any, headers: dict[str, str]
) -> None:
    token = await site.issue()
    sent = {name: value.format(url=site.url) for name, value in headers.items()}
    answer = await site.http.post(f"/activate/{token}", data=YES, headers=sent)
    assert answer.status_code == 303


async def test_the_public_address_may_have_a_path(open_site: Any) -> None:
    async with open_site(public_url="https://service.example/accounts/") as site:
        token = await site.issue()
        page = await site.http.get(f"/activate/{token}")
        assert f'action="/accounts/activate/{token}"' in page.text
        assert 'href="/accounts/static/style.css"' in page.text
        origin = {"Origin": "https://service.example"}
        answer = await site.http.post(f"/activate/{token}", data=YES, headers=origin)
        assert answer.headers["location"] == f"/accounts/activate/{token}"


@pytest.mark.parametrize("declared", [True, False])
async def test_a_body_that_is_too_large_is_not_read(site: Any, declared: bool) -> None:
    token = await site.issue()
    chunks_read = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal chunks_read
        for _ in range(100):
            chunks_read += 1
            yield b"x" * 1024

    body = b"reason=" + b"x" * 16 * 1024 if declared else chunks()
    answer = await site.http.post(f"/activate/{token}/decline", content=body)
    assert answer.status_code == 413
    assert "too much text" in answer.text
    assert chunks_read < 20


@pytest.mark.parametrize("path", ["", "/decline"])
async def test_temporal_away_loses_nothing_and_offers_to_send_again(site: Any, path: str) -> None:
    token = await site.issue()
    form = {"agree": "yes", "reason": 'He said "no"\n& left.'}
    site.temporal.fails = Unavailable("Temporal does not answer")
    answer = await site.http.post(f"/activate/{token}{path}", data=form)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "Nothing was lost" in answer.text
    assert 'name="reason" value="He said &#34;no&#34;\n&amp; left."' in answer.text
    assert "refresh" not in answer.headers
    assert (await site.stored()).signalled is None
    site.temporal.fails = None
    assert (await site.http.post(f"/activate/{token}{path}", data=form)).status_code == 303


@pytest.mark.parametrize(("method", "form"), [("GET", None), ("POST", YES)])
async def test_the_database_away_loses_nothing(site: Any, method: str, form: Any) -> None:
    token = await site.issue()
    site.store.fail(Unavailable("the database does not respond"))
    answer = await site.http.request(method, f"/activate/{token}", data=form)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "Nothing was lost" in answer.text
    assert ("refresh" in answer.headers) is (method == "GET")
    assert not site.temporal.signals


async def test_an_answer_that_temporal_has_counts_though_it_could_not_be_noted(site: Any) -> None:
    token = await site.issue()
    site.store.requests.fails = Unavailable("no")
    answer = await site.http.post(f"/activate/{token}", data=YES)
    assert answer.status_code == 200
    assert "We have received your acceptance" in answer.text
    assert answer.headers["refresh"].endswith(f"/activate/{token}")
    assert len(site.temporal.signals) == 1


async def test_a_run_that_was_ended_from_outside_says_so(site: Any) -> None:
    token = await site.issue()
    site.temporal.fails = NotFound("there is no such request")
    answer = await site.http.post(f"/activate/{token}", data=YES)
    assert answer.status_code == 410
    assert "This request was ended" in answer.text
    assert (await site.stored()).signalled is None


@pytest.mark.parametrize(
    ("ended_as", "status"), [(Status.ACTIVE, 303), (Status.DECLINED, 409), (Status.LAPSED, 410)]
)
async def test_a_run_that_ended_a_moment_ago_says_how(
    site: Any, monkeypatch: pytest.MonkeyPatch, ended_as: Status, status: int
) -> None:
    token = await site.issue()

    async def ends_first(*_: Any, **__: Any) -> None:
        await site.becomes(status=ended_as, decided_at=NOW)
        raise NotFound("closed")

    monkeypatch.setattr(site.temporal, "accept", ends_first)
    answer = await site.http.post(f"/activate/{token}", data=YES)
    assert answer.status_code == status
    assert "This request was ended" not in answer.text


async def test_what_users_wrote_is_text_and_nothing_else(site: Any) -> None:
    markup = "<script>alert(1)</script> http://evil.example \"'&"
    token = await site.issue(
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
        {**REFUSED, "reason": markup},
        {"status": Status.LAPSED},
    ]:
        await site.becomes(**changes)
        text = (await site.http.get(f"/activate/{token}")).text
        assert "<script" not in text
        assert 'href="http://evil' not in text
        assert "&lt;script&gt;" in text
