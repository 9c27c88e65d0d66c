"""Headers of every response, health checks, and unexpected errors."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace

from smart_accounts.errors import Unavailable
from smart_accounts.temporal.readiness import DependencyCheck
from smart_accounts.version import VERSION
from tests.support.site import Site


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/activate/{token}", 200),
        ("POST", "/activate/{token}", 422),
        ("POST", "/activate/{token}/decline", 303),
        ("GET", "/activate/unknown", 404),
        ("GET", "/", 200),
        ("HEAD", "/", 200),
        ("GET", "/healthz", 200),
        ("HEAD", "/readyz", 200),
        ("PUT", "/activate/{token}", 405),
        ("GET", "/nowhere", 404),
        ("GET", "/activate/", 404),
        ("GET", "/activate/{token}/", 200),
        ("GET", "/activate/{token}/decline/", 404),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/static/../app.py", 404),
    ],
)
async def test_every_response_is_private_and_runs_no_scripts(
    site: Site, method: str, path: str, status: int
) -> None:
    response = await site.http.request(method, path.format(token=await site.add_request()))
    assert response.status_code == status
    policy = response.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert response.headers["referrer-policy"] == "same-origin"
    assert response.headers["cache-control"] == "no-store"
    assert response.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in response.headers


async def test_stylesheet_is_cached_and_revalidated(site: Site) -> None:
    response = await site.http.get("/static/style.css")
    assert response.headers["cache-control"] == "no-cache"
    assert response.headers["content-type"].startswith("text/css")
    etag = {"If-None-Match": response.headers["etag"]}
    assert (await site.http.get("/static/style.css", headers=etag)).status_code == 304


async def test_traces_contain_no_token(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(trace.TracerProvider):
        """A provider that tracing for all programs of a machine would install."""

        def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
            raise AssertionError("traced")

    monkeypatch.setattr(trace, "get_tracer_provider", Provider)
    assert (await site.http.get(f"/activate/{await site.add_request()}")).status_code == 200
    assert (await site.http.get("/api/v1/requests")).status_code == 401


async def test_unexpected_error_shows_plain_page(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def raise_error(_: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(site.store.links, "find", raise_error)
    response = await site.http.get(f"/activate/{await site.add_request()}")
    assert response.status_code == 500
    assert "Something went wrong" in response.text
    assert "secret detail" not in response.text
    assert "Traceback" not in response.text
    assert "default-src 'none'" in response.headers["content-security-policy"]


async def test_healthz_succeeds_while_everything_else_is_down(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SMART_ACCOUNTS_BUILD_ID", "4f1c2d")
    site.temporal.error = Unavailable("no")
    site.store.fail(Unavailable("no"))
    response = await site.http.get("/healthz")
    expected = {"status": "ok", "version": VERSION, "build": "4f1c2d"}
    assert (response.status_code, response.json()) == (200, expected)


@pytest.mark.parametrize("temporal", ["ok", "down"])
@pytest.mark.parametrize("database", ["ok", "down"])
async def test_readyz_shows_what_is_down(site: Site, temporal: str, database: str) -> None:
    site.temporal.error = Unavailable("no") if temporal == "down" else None
    site.store.fail(Unavailable("no") if database == "down" else None)
    response = await site.http.get("/readyz")
    is_ready = temporal == database == "ok"
    assert response.status_code == (200 if is_ready else 503)
    assert response.json() == {
        "status": "ok" if is_ready else "unavailable",
        "temporal": temporal,
        "database": database,
    }


async def test_many_calls_of_readyz_are_one_check(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(DependencyCheck, "CHECK_EVERY", 60)
    checks = 0

    async def check() -> None:
        nonlocal checks
        checks += 1
        await asyncio.sleep(0)

    monkeypatch.setattr(site.temporal, "check", check)
    responses = await asyncio.gather(*(site.http.get("/readyz") for _ in range(20)))
    assert ({each.status_code for each in responses}, checks) == ({200}, 1)


async def test_readyz_waits_at_most_two_seconds(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(site.temporal, "check", hangs)
    monkeypatch.setattr(site.store, "ping", hangs)
    async with asyncio.timeout(3.9):  # one check after the other would take four seconds
        response = await site.http.get("/readyz")
    assert response.json() == {"status": "unavailable", "temporal": "down", "database": "down"}
