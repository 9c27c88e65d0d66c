"""What comes back from the provider, or seems to."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from smart_accounts.web.auth import cookies, login_attempt


async def test_a_state_that_is_not_of_this_browser_is_refused(visitor: Any, visit: Any) -> None:
    other = await visit()
    theirs = await other.goes()
    visitor.stays_out(await visitor.comes_back(**theirs), "did not begin in this browser")
    assert visitor.provider.redeemed == []


@pytest.mark.parametrize("state", ["", "x", "other", "changed", "é"])
async def test_a_state_that_we_did_not_give_is_refused(visitor: Any, state: str) -> None:
    back = await visitor.goes()
    # The cookie is found by the beginning of the state; the whole of it counts.
    state = back["state"][:-1] + "!" if state == "changed" else state
    answer = await visitor.comes_back(code="good", state=state)
    visitor.stays_out(answer, "did not begin in this browser")
    assert visitor.provider.redeemed == []


async def test_an_attempt_counts_once(visitor: Any) -> None:
    back = await visitor.goes()
    await visitor.comes_back(**back)
    visitor.http.cookies.delete("session")
    visitor.stays_out(await visitor.comes_back(**back), "was finished before")


async def test_an_attempt_is_over_after_ten_minutes(
    visitor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    back = await visitor.goes()
    kept = dict(visitor.http.cookies)
    for seconds, passes in [(595, True), (605, False)]:
        visitor.http.cookies.update(kept)
        with monkeypatch.context() as later:
            later.setattr(cookies, "datetime", clock(now + timedelta(seconds=seconds)))
            answer = await visitor.comes_back(**back)
        assert answer.is_redirect is passes
        visitor.http.cookies.clear()
    visitor.stays_out(answer, "ten minutes")


def clock(at: datetime) -> type[datetime]:
    class Clock(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return at

    return Clock


async def test_an_attempt_is_no_session_and_a_session_is_no_attempt(visitor: Any) -> None:
    await visitor.goes()
    [value] = visitor.http.cookies.values()
    visitor.keeps(value)
    assert visitor.session is None


async def test_two_tabs_at_once_both_come_back(visitor: Any) -> None:
    first = await visitor.goes("/requests")
    first_asked = visitor.provider.asked
    second = await visitor.goes("/requests/new")
    assert (await visitor.comes_back(**second)).headers["location"] == "/requests/new"
    visitor.provider.asked = first_asked
    assert (await visitor.comes_back(**first)).headers["location"] == "/requests"


async def test_abandoned_attempts_do_not_pile_up(visitor: Any) -> None:
    for _ in range(3 * login_attempt.MAX_AT_ONCE):
        await visitor.goes()
    assert len(visitor.http.cookies) <= login_attempt.MAX_AT_ONCE
    assert (await visitor.signs_in()).status_code == 303


ELSEWHERE = [
    "https://evil.example/",
    "//evil.example",
    "///evil.example",
    "/\\evil.example",
    "/\t/evil.example",
    "/\n/evil.example",
    "\\\\evil.example",
    "evil.example",
    "javascript:alert(1)",
    "/ok\r\nSet-Cookie: a=b",
    "/" + "x" * 2000,
    "",
]


@pytest.mark.parametrize("wanted", ELSEWHERE)
async def test_nobody_is_sent_to_another_site(visitor: Any, wanted: str) -> None:
    answer = await visitor.signs_in(wanted)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


@pytest.mark.parametrize(
    ("error", "status", "says"),
    [
        ("access_denied", 403, "did not let you in"),
        ("server_error", 400, "reported a problem: <code>server_error</code>"),
        ("<script>", 400, "reported a problem: <code>unknown</code>"),
    ],
)
async def test_an_error_of_the_provider_is_a_plain_page(
    visitor: Any, error: str, status: int, says: str
) -> None:
    back = await visitor.goes()
    answer = await visitor.comes_back(
        state=back["state"], error=error, error_description="call 555"
    )
    visitor.stays_out(answer, says, status)
    assert "555" not in answer.text
    assert "<script" not in answer.text


async def test_an_answer_that_names_another_issuer_is_refused(visitor: Any) -> None:
    back = await visitor.goes()
    answer = await visitor.comes_back(**back, iss="https://evil.example")
    visitor.stays_out(answer, "could not make sure")
    assert visitor.provider.redeemed == []
    assert (await visitor.comes_back(**await visitor.goes(), iss=visitor.provider.url)).is_redirect
