"""What keeps strangers out: other names, floods, and what browsers are told."""

import secrets
import time
from typing import Any

import httpx
import pytest

YES = {"agree": "yes"}
POLICY = {
    "default-src": "'none'",
    "script-src": "'self'",
    "connect-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}


@pytest.mark.parametrize(
    "host", ["evil.example", "accounts.example.evil.example", "127.0.0.1.evil.example", "[", ""]
)
async def test_another_name_is_no_address_of_ours(open_site: Any, host: str) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        token = await site.issue()
        for method in ("GET", "HEAD", "POST"):
            answer = await site.http.request(
                method, f"/activate/{token}", data=YES, headers={"Host": host}
            )
            assert answer.status_code == 421
            assert host not in answer.text or not host
        assert not site.temporal.signals
        assert (await site.http.get("/healthz", headers={"Host": host})).status_code == 200


async def test_programs_get_a_problem(open_site: Any) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        foreign = await site.http.get("/api/v1/requests", headers={"Host": "evil.example"})
        assert (foreign.status_code, foreign.json()["status"]) == (421, 421)
        flood = [await site.http.post("/api/v1/requests", json={}) for _ in range(601)]
        assert (flood[-1].status_code, flood[-1].json()["status"]) == (429, 429)
        assert flood[-1].headers["Content-Type"] == "application/problem+json"
        assert int(flood[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("host", ["accounts.example", "ACCOUNTS.example:443", "127.0.0.1:8000"])
async def test_our_own_names_are(open_site: Any, host: str) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        token = await site.issue()
        answer = await site.http.get(f"/activate/{token}", headers={"Host": host})
        assert answer.status_code == 200


async def test_browsers_are_told_to_stay_on_https(open_site: Any) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        answer = await site.http.get("/")
        assert "max-age=31536000" in answer.headers["Strict-Transport-Security"]
    async with open_site(public_url="http://127.0.0.1:8000") as site:
        assert "Strict-Transport-Security" not in (await site.http.get("/")).headers


async def test_every_answer_tells_browsers_what_not_to_do(site: Any) -> None:
    for path in ("/", "/nowhere", f"/activate/{'x' * 43}", "/healthz"):
        headers = (await site.http.get(path)).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert dict(each.split(" ", 1) for each in policy) == POLICY
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        for ability in ("camera", "geolocation", "microphone", "payment"):
            assert f"{ability}=()" in headers["Permissions-Policy"]
        assert headers["Cache-Control"] == "no-store"


async def test_random_links(site: Any) -> None:
    token = await site.issue()
    answers = [await site.http.get(f"/activate/{secrets.token_urlsafe(32)}") for _ in range(200)]
    assert [answer.status_code for answer in answers] == [404] * 30 + [429] * 170
    assert answers[-1].headers["Retry-After"] == "40"
    assert "Too many requests" in answers[-1].text
    for _ in range(100):  # who has a link is not kept from it
        assert (await site.http.get(f"/activate/{token}")).status_code == 200


async def test_flood_of_answers(site: Any) -> None:
    token = await site.issue()
    answers = [await site.http.post(f"/activate/{token}", data={}) for _ in range(130)]
    statuses = [answer.status_code for answer in answers]
    assert statuses.count(422) == 120
    assert set(statuses[120:]) == {429}
    assert answers[-1].headers["Retry-After"]
    assert (await site.http.get(f"/activate/{token}")).status_code == 200


SECOND_20 = 1_800_000_020.0
"""Of a minute, at which the clock stands still: no new minute begins under a test."""


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/activate/unknown/decline", 30),  # a guess, before it is too much sent
        ("POST", "/requests", 120),
        ("POST", "/api/v1/requests", 600),
        ("GET", "/activate/unknown", 30),
        ("GET", "/sign-in", 30),
        ("GET", "/sign-in/callback", 30),
    ],
)
async def test_too_much_within_a_minute_waits_for_the_next(
    site: Any, monkeypatch: pytest.MonkeyPatch, method: str, path: str, allowed: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: SECOND_20)
    answers = [await site.http.request(method, path) for _ in range(allowed + 1)]
    assert [answer.status_code == 429 for answer in answers] == [False] * allowed + [True]
    assert answers[-1].headers["Retry-After"] == "40"


@pytest.mark.parametrize(
    ("first", "second", "are_one"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("a-socket", "a-socket", True),
    ],
)
async def test_each_line_is_counted_by_itself(
    site: Any, monkeypatch: pytest.MonkeyPatch, first: str, second: str, are_one: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: SECOND_20)

    async def signs_in(address: str) -> int:
        transport = httpx.ASGITransport(site.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.get("/sign-in")).status_code

    statuses = {await signs_in(first) for _ in range(31)}
    assert statuses == {501, 429}  # nobody can sign in here
    assert (await signs_in(second) == 429) is are_one


async def test_another_loopback_name_leads_to_the_public_one(open_site: Any) -> None:
    elsewhere = {"Host": "localhost:8000"}
    async with open_site(public_url="http://127.0.0.1:8000") as site:
        for method in ("GET", "HEAD"):
            answer = await site.http.request(method, "/sign-in?next=%2Frequests", headers=elsewhere)
            assert answer.is_redirect
            assert answer.headers["Location"] == ("http://127.0.0.1:8000/sign-in?next=%2Frequests")
        for path in ("/healthz", "/readyz", "/openapi.json", "/static/style.css"):
            assert not (await site.http.get(path, headers=elsewhere)).is_redirect, path
        assert (await site.http.get("/api/v1/requests", headers=elsewhere)).status_code == 401
        assert not (await site.http.post("/requests", headers=elsewhere)).is_redirect
        assert (await site.http.get("/", headers={"Host": "127.0.0.1:8000"})).status_code == 200
    async with open_site(public_url="https://accounts.example") as site:
        assert (await site.http.get("/", headers=elsewhere)).status_code == 200
