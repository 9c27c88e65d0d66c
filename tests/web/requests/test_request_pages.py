"""What the partner's pages answer to each input, state and fault."""

import re
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Decision
from smart_accounts.errors import NotFound, Rejected, Unavailable

NOW = datetime.now(UTC)
FORM = {
    "account_name": "Acme Networks",
    "customer_email": "ada@acme.example",
    "account_domain": "",
    "note_to_customer": "As agreed.\r\nSoon.",
    "user_emails": "bo@acme.example",
    "note_to_added_users": "Welcome.",
}
HERE = "/requests/smart-account-acme.example"


def text(answer: httpx.Response) -> str:
    """What a page says, in one line."""
    return " ".join(unescape(re.sub(r"<[^>]*>", " ", answer.text)).split())


def hidden(answer: httpx.Response) -> dict[str, str]:
    found = re.findall(r'type="hidden" name="(\w+)" value="([^"]*)"', answer.text)
    return {name: unescape(value) for name, value in found}


EVIL = """<script>alert(1)</script><img src=x onerror=alert(2)> "'> https://evil.example/login"""


def is_harmless(page: str) -> bool:
    return not re.search(r"<script>|<img src=x|(href|src)=.?https://evil", page)


@pytest.mark.parametrize("field", [name for name in FORM if name != "csrf"])
async def test_no_field_takes_over_a_page(desk: Any, field: str) -> None:
    """Refused or shown, in the form, its review and the request's page, it is text."""
    form = FORM | {field: EVIL}
    review = await desk.post("/requests/review", **form)
    assert is_harmless(review.text)
    assert "evil.example" in review.text  # what was typed is kept
    sent = await desk.post("/requests", **form)
    assert is_harmless(sent.text)
    for run in await desk.work():
        shown = await desk.http.get(f"{HERE}?run={run}")
        assert shown.status_code == 200
        assert is_harmless(shown.text)


# ---- who may ---------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/requests", "/requests/new", HERE, f"{HERE}/events"])
async def test_nobody_sees_a_page_without_signing_in(desk: Any, path: str) -> None:
    desk.sign_in(None)
    answer = await desk.http.get(path)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/sign-in?next=")


@pytest.mark.parametrize(
    "path",
    [
        *("/requests/new", "/requests/review", "/requests"),
        *(f"{HERE}/resend", f"{HERE}/replace-approver", f"{HERE}/withdraw"),
    ],
)
async def test_a_form_without_our_token_changes_nothing(desk: Any, wanted: Any, path: str) -> None:
    await desk.open(wanted())
    for form in (FORM, FORM | {"csrf": "guessed"}):
        assert (await desk.http.post(path, data=form)).status_code == 403
    assert not desk.temporal.running
    assert not desk.temporal.actions


async def test_anybody_may_see_the_start_page(desk: Any) -> None:
    desk.sign_in(None)
    answer = await desk.http.get("/")
    assert answer.status_code == 200
    assert 'href="/requests/new">Request Smart Account<' in answer.text


@pytest.mark.parametrize("is_stored", [False, True])
async def test_another_partners_request_looks_like_none(
    desk: Any, wanted: Any, is_stored: bool
) -> None:
    run = (await desk.temporal.start(wanted(), key="the other's")).request_id
    if is_stored:
        await desk.work()
    nothing = (await desk.http.get("/requests/smart-account-nothing.example")).text
    desk.sign_in(desk.somebody_else)
    for path in (HERE, f"{HERE}?run={run}", f"{HERE}/events", f"{HERE}/complete?run={run}"):
        answer = await desk.http.get(path)
        assert (answer.status_code, answer.text) == (404, nothing)
    for action in ("resend", "replace-approver", "withdraw"):
        form = {"customer_email": "eve@acme.example"}
        assert (await desk.post(f"{HERE}/{action}?run={run}", **form)).status_code == 404
    assert not desk.temporal.actions
    assert "Acme" not in (await desk.http.get("/requests")).text


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_looking_changes_nothing_and_is_not_kept(desk: Any, wanted: Any, method: str) -> None:
    run = await desk.open(wanted())
    before = await desk.store.listing.page(requester_email=None)
    for path in ("/requests", "/requests/new", HERE, f"{HERE}/complete?run={run}"):
        answer = await desk.http.request(method, path)
        assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    for action in ("resend", "replace-approver", "withdraw"):
        assert (await desk.http.request(method, f"{HERE}/{action}")).status_code == 405
    assert await desk.store.listing.page(requester_email=None) == before
    assert not desk.temporal.running
    assert not desk.temporal.actions


async def test_an_operator_sees_everybodys_with_the_workflow(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted())
    desk.sign_in(desk.operator)
    assert "Pat Lee" in text(await desk.http.get("/requests"))
    link = f"https://temporal.example/namespaces/ours/workflows/smart-account-acme.example/{run}/"
    assert link in (await desk.http.get(HERE)).text
    desk.sign_in(desk.pat)
    assert "temporal.example" not in (await desk.http.get(HERE)).text


# ---- the form and the review -----------------------------------------------------------------


async def test_the_review_shows_the_request_as_it_will_be(desk: Any) -> None:
    form = {
        "account_name": "  Acme   Networks ",
        "customer_email": "Ada@BÜCHER.example",
        "user_emails": "bo@acme.example; cy@acme.example,,\r\n BO@acme.example\tAda@bücher.example",
        "note_to_customer": "<b>one</b>\r\ntwo",
    }
    answer = await desk.post("/requests/review", **form)
    assert answer.status_code == 200
    says = text(answer)
    until = f"{datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"
    for words in (
        *("Review Request", "Account name Acme Networks", "xn--bcher-kva.example"),
        *("<b>one</b> two", f"To be accepted by {until} , 90 days from now", "Pat Lee Partner Ltd"),
    ):
        assert words in says
    assert says.count("@acme.example") == 2
    kept = hidden(answer)
    assert kept["account_domain"] == "xn--bcher-kva.example"
    assert kept["note_to_customer"] == "<b>one</b>\ntwo"
    assert not desk.temporal.running


async def test_the_review_points_at_what_is_odd(desk: Any) -> None:
    answer = await desk.post("/requests/review", **FORM | {"account_domain": "other.example"})
    assert "The customer's address is not of the account's domain." in text(answer)


BAD = {
    "nothing typed": (
        {"account_name": "", "customer_email": " "},
        ["Account name is required.", "Customer email is required."],
    ),
    "markup": ({"account_name": "<b>"}, ["Account name must not contain < or >."]),
    "link": (
        {"account_name": "see https://evil.example"},
        ["Account name must not contain a web address."],
    ),
    "no address": (
        {"customer_email": "ada@"},
        ["Customer email must be one email address, without a display name."],
    ),
    "own address": (
        {"customer_email": "Pat@partner.example"},
        ["Customer email must differ from the requester's address."],
    ),
    "free mail": (
        {"customer_email": "ada@gmail.com"},
        ["Account domain must be a company's own domain, not a free-mail provider's."],
    ),
    "suffix": (
        {"account_domain": "co.uk"},
        ["Account domain must be a company's own domain, not a public suffix."],
    ),
    "long note": (
        {"note_to_customer": "x" * 1025},
        ["Note to customer must have at most 1024 characters."],
    ),
    "hidden": (
        {"note_to_added_users": "a\u202eb"},
        ["Note to added users must not contain control or invisible characters"],
    ),
    "bad entries": (
        {"user_emails": "bo@acme.example, cy@;<dee>\nbo@acme.example"},
        ["Entry 2, “cy@”, must be one email", "Entry 3, “<dee>”, must be one email"],
    ),
    "too many": (
        {"user_emails": " ".join(f"u{n}@acme.example" for n in range(51))},
        ["User emails must have at most 50 addresses."],
    ),
}


@pytest.mark.parametrize("path", ["/requests/review", "/requests"])
@pytest.mark.parametrize("case", BAD)
async def test_what_is_wrong_stands_beside_its_field(desk: Any, case: str, path: str) -> None:
    changes, messages = BAD[case]
    form = FORM | changes
    answer = await desk.post(path, **form)
    assert answer.status_code == 422
    assert "<title>Error: " in answer.text
    for message in messages:
        assert text(answer).count(message) == 2  # in the summary and beside the field
    for target in re.findall(r'<li><a href="#(\w+)">', answer.text):
        field = re.search(rf'id="{target}" [^>]*aria-describedby="([^"]*)"', answer.text)
        assert field
        assert all(f'id="{name}"' in answer.text for name in field[1].split())
        assert f"{target}-error1" in field[1]
    for value in form.values():  # what was typed is still there
        assert value.replace("\r", "") in unescape(answer.text).replace("\r", "")
    assert not desk.temporal.running


async def test_going_back_to_change_keeps_everything(desk: Any) -> None:
    review = await desk.post("/requests/review", **FORM)
    form = await desk.post("/requests/new", **hidden(review))
    assert form.status_code == 200
    for value in ("Acme Networks", "ada@acme.example", "acme.example", "As agreed.\nSoon."):
        assert value in unescape(form.text)
    assert hidden(form)["form_id"] == hidden(review)["form_id"]


async def test_the_longest_form_fits_and_a_longer_one_is_refused(desk: Any) -> None:
    longest = FORM | {
        "note_to_customer": "🚀" * 1024,
        "note_to_added_users": "🚀" * 1024,
        "user_emails": "\n".join(f"{'u' * 62}{n:02}@{'d' * 60}.example" for n in range(50)),
    }
    review = await desk.post("/requests/review", **longest)
    assert review.status_code == 200
    assert (await desk.post("/requests", **hidden(review))).status_code == 303
    assert (await desk.post("/requests", account_name="x" * 50_000)).status_code == 413


# ---- sending ---------------------------------------------------------------------------------


async def test_sending_again_is_the_same_request(desk: Any) -> None:
    form = hidden(await desk.post("/requests/review", **FORM))
    answers = [await desk.post("/requests", **form) for _ in range(2)]
    await desk.work()
    desk.temporal.running.clear()  # the run has ended; the store still knows the key
    answers.append(await desk.post("/requests", **form))
    assert {answer.status_code for answer in answers} == {303}
    assert len({answer.headers["location"] for answer in answers}) == 1
    assert (await desk.store.listing.page(requester_email=None)).total == 1


async def test_a_form_that_was_changed_is_another_request(desk: Any) -> None:
    form = hidden(await desk.post("/requests/review", **FORM))
    first = await desk.post("/requests", **form)
    second = await desk.post("/requests", **form | {"account_domain": "sub.acme.example"})
    assert first.headers["location"] != second.headers["location"]
    assert len(desk.temporal.running) == 2


async def test_a_reload_of_the_review_sends_no_second_request(desk: Any) -> None:
    form = await desk.http.get("/requests/new")
    typed = FORM | {"form_id": hidden(form)["form_id"]}
    reviews = [await desk.post("/requests/review", **typed) for _ in range(2)]
    sent = [await desk.post("/requests", **hidden(review)) for review in reviews]
    assert sent[0].headers["location"] == sent[1].headers["location"]


async def test_complete_says_provisional_only_once_it_is(desk: Any) -> None:
    sent = await desk.post("/requests", **FORM)
    where = sent.headers["location"]
    waiting = await desk.http.get(where)
    assert (waiting.status_code, waiting.headers["refresh"]) == (200, "2")
    assert "We have your request" in text(waiting)
    assert "provisional" not in text(waiting)
    assert "Requested" in text(await desk.http.get(where.replace("/complete", "")))
    await desk.work()
    for _ in range(2):  # a reload shows it again
        complete = await desk.http.get(where)
        assert "Smart Account Request Complete" in text(complete)
        assert "provisional Smart Account was created" in text(complete)
        assert "refresh" not in complete.headers
    [(running, _)] = desk.temporal.running.values()
    run = running.request_id
    await desk.decide(run, Decision(status=Status.DECLINED, at=NOW))
    ended = await desk.http.get(where)
    assert (ended.status_code, ended.headers["location"]) == (303, f"{HERE}?run={run}")


@pytest.mark.parametrize("has_ended", [False, True])
async def test_request_that_is_stored_while_it_is_looked_for(
    desk: Any, monkeypatch: pytest.MonkeyPatch, has_ended: bool
) -> None:
    find_running = desk.temporal.find_running

    async def slow(*args: Any, **run: str) -> Any:
        [run_id] = await desk.work()
        if has_ended:
            await desk.decide(run_id, Decision(status=Status.WITHDRAWN, at=NOW))
            raise NotFound("no request is open there")
        return await find_running(*args, **run)

    where = (await desk.post("/requests", **FORM)).headers["location"]
    monkeypatch.setattr(desk.temporal, "find_running", slow)
    answer = await desk.http.get(where.replace("/complete", ""))
    assert answer.status_code == 200
    assert ("Withdrawn" if has_ended else "Requested") in text(answer)


@pytest.mark.parametrize("run", ["", "x", "0" * 36, "31f29747-2ef2-4962-8f4e-bfebe2e291ed"])
async def test_nothing_was_sent_under_a_made_up_run(desk: Any, run: str) -> None:
    for path in (f"{HERE}?run={run}", f"{HERE}/complete?run={run}", f"{HERE}/events?run={run}"):
        assert (await desk.http.get(path)).status_code == 404


async def test_a_taken_domain_says_so_and_what_to_do(desk: Any, wanted: Any) -> None:
    run = await desk.open(wanted())
    await desk.decide(run, Decision(status=Status.ACTIVE, at=NOW, by="ada@acme.example"))
    answer = await desk.post("/requests", **FORM)
    assert answer.status_code == 409
    for words in ("already has an active Smart Account", "The account is yours", "ask our support"):
        assert words in text(answer)
    assert f"{HERE}?run={run}" in answer.text
    assert 'value="ada@acme.example"' in answer.text
    desk.sign_in(desk.somebody_else)
    answer = await desk.post("/requests", **FORM)
    assert answer.status_code == 409
    assert "yours" not in text(answer)
    assert run not in answer.text


async def test_an_open_request_of_somebody_else_is_in_the_way(desk: Any, wanted: Any) -> None:
    await desk.temporal.start(wanted(), key="another")
    answer = await desk.post("/requests", **FORM)
    assert answer.status_code == 409
    assert "A request for acme.example is already under way." in text(answer)


async def test_an_outage_offers_to_send_again_under_the_same_key(desk: Any) -> None:
    form = hidden(await desk.post("/requests/review", **FORM))
    desk.temporal.fails = Unavailable("no")
    answer = await desk.post("/requests", **form)
    assert answer.status_code == 503
    assert int(answer.headers["retry-after"]) > 0
    assert "Send Request again" in text(answer)
    assert "Nothing has been requested yet" not in text(answer)
    again = hidden(answer)
    assert again == form
    desk.temporal.fails = None
    sent = await desk.post("/requests", **again)
    assert sent.headers["location"] == (await desk.post("/requests", **form)).headers["location"]


# ---- my requests -----------------------------------------------------------------------------


@pytest.fixture
async def several(desk: Any, wanted: Any) -> None:
    for number in range(27):
        at = NOW - timedelta(days=number, hours=1)
        name = f"Company {number}"
        await desk.open(wanted(f"c{number}.example", account_name=name), at=at)
    newest = (await desk.store.listing.page(requester_email=None)).items[0].request
    await desk.mailed(newest.id, EmailKind.ACTIVATION)
    await desk.decide(newest.id, Decision(status=Status.DECLINED, at=NOW))


LISTS = {
    "": (
        ["1\N{EN DASH}25 of 27 requests", "Company 0", "Company 24", "Page 1 of 2"],
        ["Company 25"],
    ),
    "?page=2": (["26\N{EN DASH}27 of 27 requests", "Company 25"], ["Company 24 "]),
    "?page=9": (["There are only 2 pages"], ["Company"]),
    "?page=0": (["1\N{EN DASH}25 of 27"], []),
    "?page=x&status=none": (["1\N{EN DASH}25 of 27"], []),
    "?status=declined": (["1 request found", "Company 0", "Ended"], ["Company 1"]),
    "?status=active": (["No request matches."], ["Company"]),
    "?q=c26.EX": (["1 request found", "Company 26", "64 days left"], ["Company 0"]),
    "?q=%00c26.EX%1b": (["1 request found", "Company 26"], ["Company 0"]),
    "?q=%25": (["No request matches."], []),
    "?q=company&status=pending&page=2": (["26\N{EN DASH}26 of 26", "Company 26"], []),
}


@pytest.mark.parametrize("query", LISTS)
async def test_the_list_filters_searches_and_pages(desk: Any, several: None, query: str) -> None:
    answer = await desk.http.get(f"/requests{query}")
    assert answer.status_code == 200
    shown, absent = LISTS[query]
    for words in shown:
        assert words in text(answer)
    for words in absent:
        assert words not in text(answer).replace("of the account", "")


async def test_pages_keep_the_filter(desk: Any, several: None) -> None:
    answer = await desk.http.get("/requests?q=c&status=pending")
    assert 'href="/requests?status=pending&amp;q=c&amp;page=2"' in answer.text
    assert '<option value="pending" selected>' in answer.text


async def test_nothing_requested_yet_leads_to_the_form(desk: Any) -> None:
    answer = await desk.http.get("/requests")
    assert "You have not requested a Smart Account yet." in text(answer)
    assert answer.text.count('href="/requests/new"') == 2


# ---- the actions -----------------------------------------------------------------------------

ACTIONS = {
    "resend": ({}, None, "A new activation email is on its way."),
    "replace-approver": (
        {"customer_email": "eve@acme.example"},
        "eve@acme.example",
        "The new approver gets an activation email.",
    ),
    "withdraw": ({"reason": "Typo.\r\n"}, "Typo.", "The request is withdrawn."),
}


@pytest.mark.parametrize("action", ACTIONS)
async def test_an_action_is_told_once(desk: Any, wanted: Any, action: str) -> None:
    run = await desk.open(wanted())
    form, sent, words = ACTIONS[action]
    answer = await desk.post(f"{HERE}/{action}?run={run}", **form)
    assert (answer.status_code, answer.headers["location"]) == (303, f"{HERE}?run={run}")
    assert {"HttpOnly", "SameSite=lax"} <= set(answer.headers["set-cookie"].split("; "))
    assert desk.done == [(action, sent)]
    assert words in text(await desk.http.get(HERE))
    assert words not in text(await desk.http.get(HERE))


@pytest.mark.parametrize("desk", ["https://accounts.example"], indirect=True)
async def test_what_was_done_is_told_over_https_alone(desk: Any, wanted: Any) -> None:
    await desk.open(wanted())
    answer = await desk.post(f"{HERE}/resend")
    assert "Secure" in answer.headers["set-cookie"].split("; ")


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Rejected("Too late: the request is lapsed already."), 409),
        (NotFound("There is no open request there."), 409),
        (Unavailable("No answer yet. It may still be done."), 503),
        (BadInput([FieldError(field="customer_email", message="must differ")]), 422),
    ],
)
async def test_a_refused_action_says_why_and_keeps_what_was_typed(
    desk: Any, wanted: Any, action: str, error: Exception, status: int
) -> None:
    run = await desk.open(wanted())
    desk.temporal.fails = error
    form, _, _ = ACTIONS[action]
    answer = await desk.post(f"{HERE}/{action}?run={run}", **form)
    assert answer.status_code == status
    said = "must differ." if status == 422 else str(error)
    assert text(answer).count(said) == 2
    assert f'<details id="{action}" open>' in answer.text
    assert ("retry-after" in answer.headers) is (status == 503)
    for value in form.values():
        assert value.strip() in answer.text


@pytest.mark.parametrize(
    ("action", "form", "words"),
    [
        ("replace-approver", {}, "New approver's email must be one email address"),
        ("replace-approver", {"customer_email": "a@b, c@d"}, "must be one email address"),
        ("withdraw", {"reason": "x" * 1025}, "The reason must have at most 1024 characters."),
    ],
)
async def test_bad_input_reaches_no_workflow(
    desk: Any, wanted: Any, action: str, form: dict[str, str], words: str
) -> None:
    await desk.open(wanted())
    answer = await desk.post(f"{HERE}/{action}", **form)
    assert answer.status_code == 422
    assert words in text(answer)
    assert not desk.temporal.actions


@pytest.mark.parametrize("status", [each for each in Status if each.is_final])
async def test_an_ended_request_offers_no_action(desk: Any, wanted: Any, status: Status) -> None:
    run = await desk.open(wanted())
    await desk.decide(run, Decision(status=status, at=NOW - timedelta(hours=2), reason="Why."))
    answer = await desk.http.get(HERE)
    assert "<details" not in answer.text
    assert "live.js" not in answer.text
    assert ("request a new Smart Account" in text(answer)) is (status is not Status.ACTIVE)
