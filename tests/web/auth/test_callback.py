"""The callback to which the provider sends the browser back."""

import base64
import json
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from smart_accounts.web.auth import cookies, login_attempt
from tests.support.identity_provider import Visitor


def jwe_of(header: dict[str, object]) -> str:
    return base64.urlsafe_b64encode(json.dumps(header).encode()).decode().rstrip("=") + ".a.a.a.a"


@pytest.mark.parametrize(
    "change",
    [
        lambda _: "",
        lambda _: "x",
        lambda _: "x.y",
        lambda _: "é" * 60,
        lambda state: state[:-1] + "!",
        lambda state: state.partition(".")[0],
        lambda state: state + "." + "a" * 9000,
        lambda _: "x." + jwe_of({"alg": "dir", "enc": {}}),
        lambda _: "x." + jwe_of({"alg": "PBES2-HS256+A128KW", "enc": "A256GCM", "p2c": 10**9}),
    ],
)
async def test_state_that_is_not_ours_is_rejected(
    visitor: Visitor, change: Callable[[str], str]
) -> None:
    state = change((await visitor.start_sign_in())["state"])
    response = await visitor.open_callback(code="good", state=state)
    await visitor.check_rejected(response, "was not started in this browser")
    assert visitor.provider.token_requests == []


async def test_all_of_the_state_must_match(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    # The cookie is found by the beginning of the state.
    id_, _, sealed = back["state"].partition(".")
    response = await visitor.open_callback(code="good", state=f"{id_[:-1]}!.{sealed}")
    assert response.headers["location"].startswith(visitor.provider.url)
    assert visitor.provider.token_requests == []


async def test_attempt_counts_once(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    await visitor.open_callback(**back)
    visitor.http.cookies.delete("session")
    again = visitor.sign_in_at_provider(await visitor.open_callback(**back))
    assert again["state"] != back["state"]
    assert len(visitor.provider.token_requests) == 1
    assert await visitor.session() is None


async def test_attempt_expires_after_ten_minutes(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = datetime.now(UTC)
    back = await visitor.start_sign_in()
    cookies_before = dict(visitor.http.cookies)
    for seconds, passes in [(595, True), (605, False)]:
        visitor.http.cookies.update(cookies_before)
        with monkeypatch.context() as later:
            later.setattr(cookies, "datetime", clock(now + timedelta(seconds=seconds)))
            response = await visitor.open_callback(**back)
        assert (response.headers["location"] == "/") is passes
        visitor.http.cookies.clear()
    visitor.sign_in_at_provider(response)


def clock(at: datetime) -> SimpleNamespace:
    return SimpleNamespace(now=lambda _: at)


async def test_cookie_of_an_attempt_is_not_a_session(visitor: Visitor) -> None:
    await visitor.start_sign_in()
    [value] = visitor.http.cookies.values()
    visitor.set_session_cookie(value)
    assert await visitor.session() is None


async def test_two_tabs_sign_in_at_the_same_time(visitor: Visitor) -> None:
    first = await visitor.start_sign_in("/requests")
    first_query = visitor.provider.authorization_query
    second = await visitor.start_sign_in("/requests/new")
    assert (await visitor.open_callback(**second)).headers["location"] == "/requests/new"
    visitor.provider.authorization_query = first_query
    assert (await visitor.open_callback(**first)).headers["location"] == "/requests"


async def test_number_of_abandoned_attempts_is_limited(visitor: Visitor) -> None:
    for _ in range(3 * login_attempt.MAX_AT_ONCE):
        await visitor.start_sign_in()
    assert len(visitor.http.cookies) <= login_attempt.MAX_AT_ONCE
    assert (await visitor.sign_in()).status_code == 303


FOREIGN_PAGES = [
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


@pytest.mark.parametrize("next_page", FOREIGN_PAGES)
async def test_sign_in_never_redirects_to_another_site(visitor: Visitor, next_page: str) -> None:
    response = await visitor.sign_in(next_page)
    assert (response.status_code, response.headers["location"]) == (303, "/")


async def test_failed_sign_ins_do_not_lock_out_an_office(visitor: Visitor) -> None:
    failed = [await visitor.open_callback(state="unknown") for _ in range(32)]
    assert [response.status_code for response in failed] == [400] * 30 + [429] * 2
    assert "Too many requests" in failed[-1].text
    assert failed[-1].headers["retry-after"]
    for _ in range(16):  # 32 requests
        visitor.http.cookies.clear()
        assert (await visitor.sign_in()).status_code == 303


@pytest.mark.parametrize(
    ("error", "status", "reason"),
    [
        ("access_denied", 403, "did not let you in"),
        ("server_error", 400, "reported a problem: <code>server_error</code>"),
        ("<script>", 400, "reported a problem: <code>unknown</code>"),
    ],
)
async def test_error_of_the_provider_shows_a_plain_page(
    visitor: Visitor, error: str, status: int, reason: str
) -> None:
    back = await visitor.start_sign_in()
    response = await visitor.open_callback(
        state=back["state"], error=error, error_description="call this number"
    )
    await visitor.check_rejected(response, reason, status)
    assert "call this number" not in response.text
    assert "<script>" not in response.text


async def test_response_from_another_issuer_is_rejected(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    response = await visitor.open_callback(**back, iss="https://evil.example")
    await visitor.check_rejected(response, "could not verify")
    assert visitor.provider.token_requests == []
    assert (
        await visitor.open_callback(**await visitor.start_sign_in(), iss=visitor.provider.url)
    ).is_redirect
