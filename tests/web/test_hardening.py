"""Host names, rate limits and security headers."""

import secrets
import time

import httpx
import pytest

from tests.support.site import AGREED, OpenSite, Site

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
async def test_unknown_host_name_is_rejected(open_site: OpenSite, host: str) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        token = await site.add_request()
        for method in ("GET", "HEAD", "POST"):
            response = await site.http.request(
                method, f"/activate/{token}", data=AGREED, headers={"Host": host}
            )
            assert response.status_code == 421
            assert host not in response.text or not host
        assert not site.temporal.signals
        assert (await site.http.get("/healthz", headers={"Host": host})).status_code == 200


async def test_api_errors_are_problem_documents(open_site: OpenSite) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        foreign = await site.http.get("/api/v1/requests", headers={"Host": "evil.example"})
        assert (foreign.status_code, foreign.json()["status"]) == (421, 421)
        flood = [await site.http.post("/api/v1/requests", json={}) for _ in range(601)]
        assert (flood[-1].status_code, flood[-1].json()["status"]) == (429, 429)
        assert flood[-1].headers["Content-Type"] == "application/problem+json"
        assert int(flood[-1].headers["Retry-After"]) > 0


@pytest.mark.parametrize("host", ["accounts.example", "ACCOUNTS.example:443", "127.0.0.1:8000"])
async def test_known_host_names_are_accepted(open_site: OpenSite, host: str) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        token = await site.add_request()
        response = await site.http.get(f"/activate/{token}", headers={"Host": host})
        assert response.status_code == 200


async def test_https_sites_send_hsts(open_site: OpenSite) -> None:
    async with open_site(public_url="https://accounts.example") as site:
        response = await site.http.get("/")
        assert "max-age=31536000" in response.headers["Strict-Transport-Security"]
    async with open_site(public_url="http://127.0.0.1:8000") as site:
        assert "Strict-Transport-Security" not in (await site.http.get("/")).headers


async def test_every_response_has_security_headers(site: Site) -> None:
    for path in ("/", "/nowhere", f"/activate/{'x' * 43}", "/healthz"):
        headers = (await site.http.get(path)).headers
        policy = headers["Content-Security-Policy"].split("; ")
        assert dict(directive.split(" ", 1) for directive in policy) == POLICY
        assert headers["Referrer-Policy"] == "same-origin"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Cross-Origin-Opener-Policy"] == "same-origin"
        assert headers["Cross-Origin-Resource-Policy"] == "same-origin"
        for feature in ("camera", "geolocation", "microphone", "payment"):
            assert f"{feature}=()" in headers["Permissions-Policy"]
        assert headers["Cache-Control"] == "no-store"


async def test_unknown_links_are_limited(site: Site) -> None:
    token = await site.add_request()
    responses = [await site.http.get(f"/activate/{secrets.token_urlsafe(32)}") for _ in range(200)]
    assert [response.status_code for response in responses] == [404] * 30 + [429] * 170
    assert responses[-1].headers["Retry-After"] == "40"
    assert "Too many requests" in responses[-1].text
    for _ in range(100):  # a known link still works
        assert (await site.http.get(f"/activate/{token}")).status_code == 200


async def test_posts_are_limited(site: Site) -> None:
    token = await site.add_request()
    responses = [await site.http.post(f"/activate/{token}", data={}) for _ in range(130)]
    statuses = [response.status_code for response in responses]
    assert statuses.count(422) == 120
    assert set(statuses[120:]) == {429}
    assert responses[-1].headers["Retry-After"]
    assert (await site.http.get(f"/activate/{token}")).status_code == 200


SECOND_20 = 1_800_000_020.0
"""Second 20 of a minute. The clock is stopped so that no new minute begins during a test."""


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("POST", "/activate/unknown/decline", 30),  # counts as a guess, not as a POST
        ("POST", "/requests", 120),
        ("POST", "/api/v1/requests", 600),
        ("POST", "/webhooks/x/ping", 60),
        ("PATCH", "/api/v1/webhooks/x", 60),
        ("DELETE", "/api/v1/webhooks/x", 60),
        ("GET", "/activate/unknown", 30),
    ],
)
async def test_limits_per_minute(
    site: Site, monkeypatch: pytest.MonkeyPatch, method: str, path: str, allowed: int
) -> None:
    monkeypatch.setattr(time, "time", lambda: SECOND_20)
    responses = [await site.http.request(method, path) for _ in range(allowed + 1)]
    assert [response.status_code == 429 for response in responses] == [False] * allowed + [True]
    assert responses[-1].headers["Retry-After"] == "40"


@pytest.mark.parametrize(
    ("first", "second", "count_together"),
    [
        ("192.0.2.1", "192.0.2.1", True),
        ("192.0.2.1", "192.0.2.2", False),
        ("2001:db8::1", "2001:db8::ffff:0:0:1", True),
        ("2001:db8::1", "2001:db8:0:1::1", False),
        ("::ffff:192.0.2.1", "::ffff:192.0.2.2", False),
        ("a-socket", "a-socket", True),
    ],
)
async def test_each_client_address_is_counted_separately(
    site: Site, monkeypatch: pytest.MonkeyPatch, first: str, second: str, count_together: bool
) -> None:
    monkeypatch.setattr(time, "time", lambda: SECOND_20)

    async def guess_from(address: str) -> int:
        transport = httpx.ASGITransport(site.app, client=(address, 1))
        async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
            return (await http.get("/activate/unknown")).status_code

    statuses = {await guess_from(first) for _ in range(31)}
    assert statuses == {404, 429}
    assert (await guess_from(second) == 429) is count_together


async def test_other_loopback_name_redirects_to_the_public_url(open_site: OpenSite) -> None:
    localhost = {"Host": "localhost:8000"}
    async with open_site(public_url="http://127.0.0.1:8000") as site:
        for method in ("GET", "HEAD"):
            response = await site.http.request(
                method, "/sign-in?next=%2Frequests", headers=localhost
            )
            assert response.is_redirect
            assert response.headers["Location"] == (
                "http://127.0.0.1:8000/sign-in?next=%2Frequests"
            )
        for path in ("/healthz", "/readyz", "/openapi.json", "/static/style.css"):
            assert not (await site.http.get(path, headers=localhost)).is_redirect, path
        assert (await site.http.get("/api/v1/requests", headers=localhost)).status_code == 401
        assert not (await site.http.post("/requests", headers=localhost)).is_redirect
        assert (await site.http.get("/", headers={"Host": "127.0.0.1:8000"})).status_code == 200
    async with open_site(public_url="https://accounts.example") as site:
        assert (await site.http.get("/", headers=localhost)).status_code == 200
