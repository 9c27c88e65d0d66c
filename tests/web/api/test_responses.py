"""Responses to invalid bodies, paths and parameters, and during outages."""

import asyncio
import socket
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from smart_accounts.errors import Unavailable
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.errors import RPC_TIMEOUT
from smart_accounts.web.api import routes
from tests.support.api import ACME_REQUEST, REQUESTS, Api, OpenApi, check_problem, errors_of
from tests.support.outages import OPERATORS_WORDS, error_for_operators


@pytest.mark.parametrize(
    "path", [REQUESTS, f"{ACME_REQUEST}/replace-approver", f"{ACME_REQUEST}/withdraw"]
)
@pytest.mark.parametrize(
    ("content", "media_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[" * 10_000, "application/json", 400),
        (b'{"a": "\xff"}', "application/json", 400),
        (b"[]", "application/json; charset=utf-8", 422),
        (b"7", "Application/JSON", 422),
        (b'{"account_name": "\\ud800"}', "application/json", 422),
        (b"{}", "application/x-www-form-urlencoded", 415),
        (b"{}", "text/plain", 415),
        (b"{}", "", 415),
        (b"x" * (16 * 1024 + 1), "application/json", 413),
        (b"x" * (16 * 1024 + 1), "text/plain", 413),
    ],
)
async def test_invalid_bodies(
    api: Api, path: str, content: bytes, media_type: str, status: int
) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    check_problem(await api.http.post(path, content=content, headers=headers), status)


async def test_endless_body_is_not_read_to_its_end(api: Api) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1024

    check_problem(await api.http.post(REQUESTS, content=endless()), 413)


@pytest.mark.parametrize(
    "path",
    [
        "/api/",
        "/api/v2/requests",
        f"{REQUESTS}/",
        f"{ACME_REQUEST}/accept",
        "/api/openapi.json",
        "/api/v1/%0arequests",
        "/api/%0a",
    ],
)
async def test_unknown_paths(api: Api, path: str) -> None:
    for method in ("GET", "POST"):
        check_problem(await api.http.request(method, path), 404)


@pytest.mark.parametrize(
    ("method", "path", "allowed"),
    [
        ("DELETE", ACME_REQUEST, "GET"),
        ("PUT", REQUESTS, "GET, POST"),
        ("OPTIONS", REQUESTS, "GET, POST"),
        ("GET", f"{ACME_REQUEST}/withdraw", "POST"),
    ],
)
async def test_wrong_method_gets_the_allowed_ones(
    api: Api, method: str, path: str, allowed: str
) -> None:
    response = await api.http.request(method, path)
    check_problem(response, 405)
    assert response.headers["allow"] == allowed


@pytest.mark.parametrize(
    ("path", "parameter", "value"),
    [
        (REQUESTS, "limit", "0"),
        (REQUESTS, "limit", "101"),
        (REQUESTS, "page", "0"),
        (REQUESTS, "page", "99999999999999999999"),
        (REQUESTS, "status", "open"),
        (REQUESTS, "search", "a\0"),
        (REQUESTS, "search", "a" * 255),
        (REQUESTS, "staus", "pending"),
        (ACME_REQUEST, "run", "latest"),
        (ACME_REQUEST, "rnu", "x"),
    ],
)
async def test_invalid_parameters_are_named(
    api: Api, path: str, parameter: str, value: str
) -> None:
    assert errors_of(await api.http.get(path, params={parameter: value})).keys() == {parameter}


async def test_outage_has_a_retry_after_header(api: Api) -> None:
    api.temporal.error = Unavailable("Temporal does not respond. Nothing was lost. Try again.")
    for method, path, body in [
        ("POST", REQUESTS, api.body),
        ("GET", ACME_REQUEST, None),
        ("POST", f"{ACME_REQUEST}/resend", None),
    ]:
        response = await api.http.request(method, path, json=body)
        check_problem(response, 503)
        assert int(response.headers["retry-after"]) > 0


@pytest.mark.parametrize("name", OPERATORS_WORDS)
async def test_only_operators_are_told_what_to_check(
    api: Api, caplog: pytest.LogCaptureFixture, name: str
) -> None:
    api.temporal.error = error_for_operators(name)
    problem = check_problem(await api.http.post(REQUESTS, json=api.body), 503)
    assert problem["detail"].endswith("is down right now. Nothing was lost; try again later.")
    assert OPERATORS_WORDS[name] in caplog.text


async def test_unexpected_error_reveals_nothing(api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    async def raise_error(*_: Any, **__: Any) -> None:
        raise RuntimeError("secret detail")

    monkeypatch.setattr(api.store.listing, "page", raise_error)
    response = await api.http.get(REQUESTS)
    check_problem(response, 500)
    assert "secret detail" not in response.text
    assert response.headers["cache-control"] == "no-store"


@pytest.mark.parametrize("outage", ["refused", "silent"])
async def test_temporal_outage_costs_at_most_two_seconds(
    api: Api,
    open_api: OpenApi,
    monkeypatch: pytest.MonkeyPatch,
    outage: str,
    real_start_timeout: None,
) -> None:
    await api.http.post(REQUESTS, json=api.body)
    await api.store_running_request()
    other = api.body | {"account_domain": "other.example"}
    assert max(routes.START_SECONDS, RPC_TIMEOUT.total_seconds()) <= 2
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        if outage == "refused":
            listener.close()
        monkeypatch.setenv("TEMPORAL_ADDRESS", f"127.0.0.1:{port}")
        client = await RequestClient.connect(lazy=True)
        async with open_api(client) as http:
            await http.get(REQUESTS)  # fetches the issuer's keys
            for path, body in ((REQUESTS, other), (f"{ACME_REQUEST}/resend", None)):
                began = time.monotonic()
                response = await http.post(path, json=body)
                took = time.monotonic() - began
                check_problem(response, 503)
                assert int(response.headers["retry-after"]) > 0
                assert took < 5, took  # two seconds, and more on a busy machine


async def test_start_without_a_response_times_out(
    api: Api, monkeypatch: pytest.MonkeyPatch, real_start_timeout: None
) -> None:
    async def hangs(*_: Any, **__: Any) -> None:
        await asyncio.sleep(60)

    monkeypatch.setattr(api.temporal, "start", hangs)
    async with asyncio.timeout(5):  # two seconds, and more on a busy machine
        response = await api.http.post(REQUESTS, json=api.body)
    assert "same key" in check_problem(response, 503)["detail"]
