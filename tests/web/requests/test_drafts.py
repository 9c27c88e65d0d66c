"""Drafts: the request form is kept for a day, and only its own person sees it."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from typing import Any

import httpx
import pytest
from sqlalchemy import Connection, event, select, update

from smart_accounts.errors import Rejected, Unavailable
from smart_accounts.store import tables
from smart_accounts.store.drafts import KEPT_AT_MOST, PURGED_AT_ONCE
from tests.support.page_content import hidden_fields, visible_text
from tests.support.partner_site import ACME_PAGE, FORM, PartnerSite, pat_request
from tests.support.partners import KIM, PAT

OWN_ORIGIN = "origin of the site"


async def saved_ids(site: PartnerSite) -> list[str]:
    """Return the subject and the id of each stored draft, oldest first."""
    drafts = tables.drafts.c
    async with site.store.engine.connect() as connection:
        rows = await connection.execute(select(drafts.subject, drafts.id).order_by(drafts.saved_at))
        return [f"{row.subject}/{row.id}" for row in rows]


async def make_older(site: PartnerSite, age: timedelta) -> None:
    """Change the time at which all drafts were saved."""
    async with site.store.engine.begin() as connection:
        await connection.execute(update(tables.drafts).values(saved_at=datetime.now(UTC) - age))


async def keep(site: PartnerSite, draft_id: str, **changes: str) -> httpx.Response:
    return await site.post("/requests/review", **FORM | {"form_id": draft_id} | changes)


async def form_of(site: PartnerSite, draft_id: str) -> str:
    return unescape((await site.http.get(f"/requests/new?draft={draft_id}")).text)


async def test_each_step_can_be_opened_again(partner_site: PartnerSite) -> None:
    opened = await partner_site.http.get("/requests/new")
    assert opened.status_code == 303
    address = opened.headers["location"]
    draft_id = hidden_fields(await partner_site.http.get(address))["form_id"]
    assert address == f"/requests/new?draft={draft_id}"
    wrong = await keep(partner_site, draft_id, customer_email="ada@")
    assert (wrong.status_code, wrong.headers["location"]) == (303, f"/requests/review/{draft_id}")
    back = await partner_site.http.get(wrong.headers["location"])
    assert (back.status_code, back.headers["location"]) == (303, address)
    assert "must be one email address" in await form_of(partner_site, draft_id)
    kept = await keep(partner_site, draft_id)
    assert "Review Request" in visible_text(await partner_site.http.get(kept.headers["location"]))
    page = await form_of(partner_site, draft_id)
    assert "As agreed.\r\nSoon." in page
    assert "There is a problem" not in page
    assert "Nothing was sent" not in page


async def test_each_opened_form_has_an_id_of_its_own(partner_site: PartnerSite) -> None:
    ids = {hidden_fields(await partner_site.open_form())["form_id"] for _ in range(3)}
    assert len(ids) == 3
    for draft_id in ("", "é", "a/b", "x" * 65, "%00"):
        response = await partner_site.http.get(f"/requests/new?draft={draft_id}")
        assert response.status_code == 303
        response = await partner_site.http.get(f"/requests/review/{draft_id}")
        assert response.status_code == 404


async def test_rejection_is_shown_until_the_form_is_changed(partner_site: PartnerSite) -> None:
    await keep(partner_site, "one")
    partner_site.temporal.error = Rejected("Too many requests. Try again tomorrow.")
    sent = await partner_site.post("/requests", **FORM, form_id="one")
    assert (sent.status_code, sent.headers["location"]) == (303, "/requests/new?draft=one")
    for path in ("/requests/new?draft=one", "/requests/review/one"):
        page = await partner_site.http.get(path, follow_redirects=True)
        assert page.status_code == 409
        assert "Too many requests. Try again tomorrow." in visible_text(page)
        assert 'value="ada@acme.example"' in page.text
    await keep(partner_site, "one")
    assert "tomorrow" not in await form_of(partner_site, "one")


async def test_two_tabs_do_not_mix(partner_site: PartnerSite) -> None:
    """Each review sends what it shows, even if both tabs have the same address."""
    domains = ("acme.example", "other.example")
    for ids in (("one", "two"), ("three", "three")):
        reviews = []
        for draft_id, domain in zip(ids, domains, strict=True):
            form = FORM | {"form_id": draft_id, "customer_email": f"ada@{domain}"}
            reviews.append(hidden_fields(await partner_site.submit("/requests/review", **form)))
        for review, domain in zip(reviews, domains, strict=True):
            sent = await partner_site.post("/requests", **review)
            assert f"/smart-account-{domain}/" in sent.headers["location"]
        partner_site.temporal.running.clear()
    assert "ada@other.example" in await form_of(partner_site, "three")


async def test_draft_of_another_partner_looks_like_an_unknown_one(
    partner_site: PartnerSite,
) -> None:
    await keep(partner_site, "one")
    await partner_site.sign_in(KIM)
    unknown = await partner_site.http.get("/requests/review/two")
    review = await partner_site.http.get("/requests/review/one")
    assert (review.status_code, review.text) == (404, unknown.text)
    form = await partner_site.http.get("/requests/new?draft=one")
    empty = await partner_site.http.get("/requests/new?draft=two")
    assert (form.status_code, form.text) == (200, empty.text.replace("two", "one"))
    await keep(partner_site, "one", account_name="Kim's customer")
    assert "Kim's customer" in await form_of(partner_site, "one")
    await partner_site.sign_in(PAT)
    assert "Acme Networks" in await form_of(partner_site, "one")


async def test_draft_is_kept_for_a_day(partner_site: PartnerSite) -> None:
    await keep(partner_site, "one")
    await make_older(partner_site, timedelta(hours=23, minutes=59))
    assert "Acme Networks" in await form_of(partner_site, "one")
    await make_older(partner_site, timedelta(hours=24))
    assert "Acme Networks" not in await form_of(partner_site, "one")
    assert (await partner_site.http.get("/requests/review/one")).status_code == 404
    assert await saved_ids(partner_site) == ["pat/one"]  # reading removes nothing
    await partner_site.sign_in(KIM)
    await keep(partner_site, "two")
    assert await saved_ids(partner_site) == ["kim/two"]


@pytest.mark.parametrize("method", ["GET", "HEAD"])
async def test_reading_writes_nothing(partner_site: PartnerSite, method: str) -> None:
    statements: list[str] = []
    may_write: list[bool] = []

    def note(*call: Any) -> None:
        statements.append(call[2])

    def note_transaction(connection: Connection) -> None:
        may_write.append(connection.get_execution_options()["writes"])

    await keep(partner_site, "one")
    engine = partner_site.store.engine.sync_engine
    event.listen(engine, "before_cursor_execute", note)
    event.listen(engine, "begin", note_transaction)
    for path in ("/requests/new", "/requests/new?draft=one", "/requests/review/one"):
        response = await partner_site.http.request(method, path)
        assert response.status_code == (303 if path == "/requests/new" else 200)
        assert response.headers["cache-control"] == "no-store"
    assert {each.partition(" ")[0] for each in statements} == {"SELECT"}
    assert not any(may_write)


async def test_draft_that_is_gone_can_be_sent_and_changed(partner_site: PartnerSite) -> None:
    review = hidden_fields(await partner_site.submit("/requests/review", **FORM))
    await make_older(partner_site, timedelta(days=2))
    form = await partner_site.submit("/requests/new", **review)
    assert 'value="ada@acme.example"' in form.text
    await make_older(partner_site, timedelta(days=2))
    assert (await partner_site.post("/requests", **review)).status_code == 303
    assert len(partner_site.temporal.running) == 1


async def test_oldest_drafts_of_a_partner_are_removed(partner_site: PartnerSite) -> None:
    await partner_site.sign_in(KIM)
    await keep(partner_site, "of-kim")
    await partner_site.sign_in(PAT)
    for number in range(KEPT_AT_MOST + 3):
        await keep(partner_site, f"{number}")
    newest = [f"pat/{number}" for number in range(3, KEPT_AT_MOST + 3)]
    assert await saved_ids(partner_site) == ["kim/of-kim", *newest]
    await keep(partner_site, "3")  # again, so that it becomes the newest
    assert await saved_ids(partner_site) == ["kim/of-kim", *newest[1:], "pat/3"]


async def test_expired_drafts_are_removed_a_few_at_a_time(partner_site: PartnerSite) -> None:
    columns = {"issuer": "x", "email": "x", "fields": {}, "is_late": False}
    at = datetime.now(UTC) - timedelta(days=3)
    rows = [
        columns | {"subject": f"{n}", "id": "x", "saved_at": at} for n in range(PURGED_AT_ONCE + 5)
    ]
    async with partner_site.store.engine.begin() as connection:
        await connection.execute(tables.drafts.insert(), rows)
    await keep(partner_site, "one")
    assert len(await saved_ids(partner_site)) == 5 + 1
    await keep(partner_site, "one")
    assert await saved_ids(partner_site) == ["pat/one"]


@pytest.mark.parametrize("path", ["/requests/review", "/requests/new", "/requests"])
async def test_outage_of_the_database_loses_nothing(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch, path: str
) -> None:
    async def raise_unavailable(*_: Any) -> None:
        raise Unavailable("no")

    partner_site.temporal.error = Rejected("A limit is reached.")
    with monkeypatch.context() as outage:
        outage.setattr(partner_site.store.drafts, "save", raise_unavailable)
        response = await partner_site.post(path, **FORM)
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert f'action="{path}"' in response.text
    again = hidden_fields(response)
    assert again["note_to_customer"] == FORM["note_to_customer"]
    assert (await partner_site.http.post(path, data=again)).status_code == 303


@pytest.mark.parametrize(
    ("path", "part", "query"),
    [
        ("/requests/review", "adoption", "adopt"),
        (f"{ACME_PAGE}/withdraw", "adoption", "adopt"),
        (f"{ACME_PAGE}/reject", "listing", "newest"),  # the request, before the form's token
    ],
)
async def test_outage_before_the_form_is_used_loses_nothing(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch, path: str, part: str, query: str
) -> None:
    async def raise_unavailable(*_: Any, **__: Any) -> None:
        raise Unavailable("no")

    csrf = await partner_site.csrf_token()
    monkeypatch.setattr(getattr(partner_site.store, part), query, raise_unavailable)
    response = await partner_site.http.post(path, data={"csrf": csrf, "reason": "A long text"})
    assert (response.status_code, response.headers["retry-after"]) == (503, "10")
    assert hidden_fields(response) == {"csrf": csrf, "reason": "A long text"}
    assert "refresh" not in response.headers  # the browser would open the form's address with GET


async def test_outage_page_has_no_form_of_another_site(
    partner_site: PartnerSite, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_unavailable(*_: Any) -> None:
        raise Unavailable("no")

    monkeypatch.setattr(partner_site.store.adoption, "adopt", raise_unavailable)
    origin = {"Origin": "https://evil.example"}
    response = await partner_site.http.post("/requests/review", data=FORM, headers=origin)
    assert (response.status_code, hidden_fields(response)) == (503, {})


async def test_form_sent_without_a_company_is_kept(partner_site: PartnerSite) -> None:
    await partner_site.sign_in(replace(PAT, company=""))
    response = await partner_site.http.post(f"{ACME_PAGE}/withdraw", data={"reason": "A long text"})
    assert response.status_code == 401
    assert hidden_fields(response) == {"reason": "A long text"}


@pytest.mark.parametrize("path", ["/requests/review", "/requests/new", "/requests"])
@pytest.mark.parametrize(
    ("origin", "status", "is_kept"),
    [(OWN_ORIGIN, 303, True), ("https://evil.example", 403, False), (None, 403, False)],
)
async def test_form_of_another_session_is_shown_again(
    partner_site: PartnerSite, path: str, origin: str | None, status: int, is_kept: bool
) -> None:
    form = FORM | {"csrf": await partner_site.csrf_token(), "form_id": "one"}
    await partner_site.sign_in(PAT)
    named = partner_site.url if origin is OWN_ORIGIN else origin
    headers = {"Origin": named} if named else {}
    response = await partner_site.http.post(path, data=form, headers=headers)
    assert response.status_code == status
    assert await saved_ids(partner_site) == (["pat/one"] if is_kept else [])
    if is_kept:
        page = await partner_site.http.get(response.headers["location"])
        assert "You have signed in again" in visible_text(page)
        assert 'value="Acme Networks"' in page.text
        sent = hidden_fields(await partner_site.submit("/requests/review", **FORM, form_id="one"))
        assert (await partner_site.post("/requests", **sent)).status_code == 303
        assert "You have signed in again" not in await form_of(partner_site, "one")
    else:
        assert not partner_site.temporal.running


@pytest.mark.parametrize(
    ("action", "field", "text"),
    [
        ("withdraw", "reason", "A long reason."),
        ("replace-approver", "customer_email", "eve@acme.example"),
    ],
)
async def test_action_of_another_session_is_shown_again(
    partner_site: PartnerSite, action: str, field: str, text: str
) -> None:
    await partner_site.add_request(pat_request())
    form = {"csrf": await partner_site.csrf_token(), field: text}
    await partner_site.sign_in(PAT)
    headers = {"Origin": partner_site.url}
    path = f"{ACME_PAGE}/{action}"
    response = await partner_site.http.post(path, data=form, headers=headers)
    assert response.status_code == 403
    assert "You have signed in again" in visible_text(response)
    assert f'<details id="{action}" open>' in response.text
    assert text in response.text
    assert not partner_site.temporal.actions
    await partner_site.http.post(path, data=form | hidden_fields(response), headers=headers)
    assert partner_site.actions == [(action, text)]
