"""Answers while Temporal or the database is down, or after the run has ended."""

import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from typing import Any

import pytest

from smart_accounts.contract.messages import Status
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.store import database
from tests.support.site import AGREED, OpenSite, Site

NOW = datetime.now(UTC)


@pytest.mark.parametrize("path", ["", "/decline"])
async def test_temporal_outage_page_sends_the_answer_again(site: Site, path: str) -> None:
    token = await site.add_request()
    form = {"agree": "yes", "reason": 'He said "no"\n& left.'}
    site.temporal.error = Unavailable("Temporal does not respond")
    response = await site.http.post(f"/activate/{token}{path}", data=form)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "Nothing was lost" in response.text
    assert 'name="reason" value="He said &#34;no&#34;\n&amp; left."' in response.text
    assert "refresh" not in response.headers
    assert (await site.stored_request()).signalled is None
    site.temporal.error = None
    assert (await site.http.post(f"/activate/{token}{path}", data=form)).status_code == 303


@pytest.mark.parametrize(("method", "form"), [("GET", None), ("POST", AGREED)])
async def test_database_outage_shows_the_outage_page(
    site: Site, method: str, form: dict[str, str] | None
) -> None:
    token = await site.add_request()
    site.store.fail(Unavailable("the database does not respond"))
    response = await site.http.request(method, f"/activate/{token}", data=form)
    assert response.status_code == 503
    assert int(response.headers["retry-after"]) > 0
    assert "Nothing was lost" in response.text
    assert ("refresh" in response.headers) is (method == "GET")
    assert not site.temporal.signals


async def test_page_says_received_while_the_database_is_locked(
    open_site: OpenSite, web_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "SQLITE_BUSY_SECONDS", 0.2)
    file = web_database_url.partition("///")[2]
    other_program = sqlite3.connect(file, isolation_level=None)
    with closing(other_program):
        async with open_site() as site:
            token = await site.add_request()
            accept = site.temporal.accept

            async def accept_and_lock(*args: Any, **values: Any) -> None:
                await accept(*args, **values)
                other_program.execute("BEGIN IMMEDIATE")

            monkeypatch.setattr(site.temporal, "accept", accept_and_lock)
            response = await site.http.post(f"/activate/{token}", data=AGREED)
            for _ in range(2):
                assert response.status_code == 200
                assert "We have received your acceptance" in response.text
                assert response.headers["refresh"].endswith(f"/activate/{token}")
                response = await site.http.get(f"/activate/{token}")
            assert (await site.stored_request()).signalled is None
            assert (await site.http.post(f"/activate/{token}", data=AGREED)).status_code == 303
            assert (await site.http.post(f"/activate/{token}/decline")).status_code == 409
            assert len(site.temporal.signals) == 1

            other_program.close()
            await site.update_request(status=Status.ACTIVE, decided_at=NOW)
            assert "is active" in (await site.http.get(f"/activate/{token}")).text
            assert not site.app.state.services.answers


async def test_terminated_run_shows_ended_page(site: Site) -> None:
    token = await site.add_request()
    site.temporal.error = NotFound("there is no such request")
    response = await site.http.post(f"/activate/{token}", data=AGREED)
    assert response.status_code == 410
    assert "This request has ended" in response.text
    assert (await site.stored_request()).signalled is None


@pytest.mark.parametrize(
    ("ended_as", "status"), [(Status.ACTIVE, 303), (Status.DECLINED, 409), (Status.LAPSED, 410)]
)
async def test_run_that_has_just_ended_shows_its_result(
    site: Site, monkeypatch: pytest.MonkeyPatch, ended_as: Status, status: int
) -> None:
    token = await site.add_request()

    async def accept_too_late(*_: Any, **__: Any) -> None:
        await site.update_request(status=ended_as, decided_at=NOW)
        raise NotFound("closed")

    monkeypatch.setattr(site.temporal, "accept", accept_too_late)
    response = await site.http.post(f"/activate/{token}", data=AGREED)
    assert response.status_code == status
    assert "This request has ended" not in response.text
