"""What every answer carries, health checks, and errors nobody foresaw."""

import asyncio
from typing import Any

import pytest
from opentelemetry import trace

from smart_accounts.errors import Unavailable


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
        ("GET", "/activate/{token}/", 404),
        ("GET", "/openapi.json", 200),
        ("GET", "/docs", 200),
        ("GET", "/static/../app.py", 404),
    ],
)
async def test_every_answer_is_private_and_runs_nothing(
    site: Any, method: str, path: str, status: int
) -> None:
    answer = await site.http.request(method, path.format(token=await site.issue()))
    assert answer.status_code == status
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "frame-ancestors 'none'" in policy
    assert "unsafe" not in policy
    assert answer.headers["referrer-policy"] == "same-origin"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert "set-cookie" not in answer.headers


async def test_the_stylesheet_may_be_kept_but_is_asked_for(site: Any) -> None:
    answer = await site.http.get("/static/style.css")
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["content-type"].startswith("text/css")
    again = {"If-None-Match": answer.headers["etag"]}
    assert (await site.http.get("/static/style.css", headers=again)).status_code == 304


async def test_no_trace_holds_a_token(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    class Provider(trace.TracerProvider):
        """What a set-up for all programs of a machine installs."""

        def get_tracer(self, *_: Any, **__: Any) -> trace.Tracer:
            raise AssertionError("traced")

    monkeypatch.setattr(trace, "get_tracer_provider", Provider)
    assert (await site.http.get(f"/activate/{await site.issue()}")).status_code == 200
    assert (await site.http.get("/api/v1/requests")).status_code == 401


async def test_a_fault_shows_a_plain_page(site: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(_: str) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(site.store.links, "find", breaks)
    answer = await site.http.get(f"/activate/{await site.issue()}")
    assert answer.status_code == 500
    assert "Something went wrong" in answer.text
    assert "secret detail" not in answer.text
    assert "Traceback" not in answer.text
    assert "default-src 'none'" in answer.headers["content-security-policy"]


async def test_alive_says_so_whatever_else_is_down(site: Any) -> None:
    site.temporal.fails = Unavailable("no")
    site.store.fail(Unavailable("no"))
    answer = await site.http.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"status": "ok"})


@pytest.mark.parametrize("temporal", ["ok", "down"])
@pytest.mark.parametrize("database", ["ok", "down"])
async def test_ready_says_which_part_is_down(site: Any, temporal: str, database: str) -> None:
    site.temporal.fails = Unavailable("no") if temporal == "down" else None
    site.store.fail(Unavailable("no") if database == "down" else None)
    answer = await site.http.get("/readyz")
    is_ready = temporal == database == "ok"
    assert answer.status_code == (200 if is_ready else 503)
    assert answer.json() == {
        "status": "ok" if is_ready else "unavailable",
        "temporal": temporal,
        "database": database,
    }


async def test_ready_waits_for_no_part_longer_than_two_seconds(
    site: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def hangs() -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(site.temporal, "check", hangs)
    monkeypatch.setattr(site.store, "ping", hangs)
    async with asyncio.timeout(3.9):  # on a busy machine; one after the other they take four
        answer = await site.http.get("/readyz")
    assert answer.json() == {"status": "unavailable", "temporal": "down", "database": "down"}
