"""The codec server: who may use it, from where, and what it returns."""

import base64
import json
import logging
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from limits import RateLimitItemPerMinute
from temporalio.api.common.v1 import Payload

from smart_accounts.temporal.codec import PayloadCipher, key_id_of
from smart_accounts.web.codec_server import MAX_BODY, MAX_PAYLOADS, changed_payloads
from smart_accounts.web.http import rate_limits
from tests.support.api import check_problem
from tests.support.issuer import Issuer
from tests.support.keys import KEY, NEW_KEY, OLD_KEY
from tests.support.site import OpenSite, Site
from tests.support.worst_input import CALL_SECONDS, cpu_seconds

UI = "https://temporal.service.example"
OPERATOR = {"roles": ["smart-accounts-operator"]}
CIPHER = PayloadCipher([NEW_KEY, OLD_KEY])
PLAIN = Payload(metadata={"encoding": b"json/plain"}, data=b'"Ada"')
DECODE, ENCODE = "/codec/decode", "/codec/encode"


def as_json(payload: Payload) -> dict[str, Any]:
    """Return a payload as Temporal's Web UI and command line send it."""
    metadata = {name: base64.b64encode(value).decode() for name, value in payload.metadata.items()}
    return {"metadata": metadata, "data": base64.b64encode(payload.data).decode()}


BODY = {"payloads": [as_json(CIPHER.encrypt(PLAIN))]}


@pytest.fixture
async def site(open_site: OpenSite, issuer: Issuer) -> AsyncIterator[Site]:
    settings = issuer.settings | {"temporal_ui_url": f"{UI}/namespaces/ours"}
    async with open_site(payload_keys=f"{NEW_KEY},{OLD_KEY}", **settings) as opened:
        yield opened


async def post(site: Site, path: str, body: Any, **options: Any) -> httpx.Response:
    """Call the codec server as an operator who is signed in."""
    await site.start_session(is_operator=True)
    return await site.http.post(path, json=body, **options)


async def test_operator_gets_payloads_decrypted(site: Site) -> None:
    old = as_json(PayloadCipher([OLD_KEY]).encrypt(PLAIN))
    response = await post(site, DECODE, {"payloads": [*BODY["payloads"], old]})
    assert response.json() == {"payloads": [as_json(PLAIN)] * 2}
    assert response.headers["cache-control"] == "no-store"


async def test_what_cannot_be_decrypted_stays_the_same(site: Site) -> None:
    """The Web UI sends every payload here, also those that were never encrypted."""
    tampered = CIPHER.encrypt(PLAIN)
    tampered.data = tampered.data[:-1]
    payloads = [
        as_json(PLAIN),
        {"metadata": {"encoding": "YmluYXJ5L251bGw="}},
        {},
        as_json(PayloadCipher([KEY]).encrypt(PLAIN)),
        as_json(tampered),
    ]
    response = await post(site, f"{DECODE}?preserveStorageRefs=true", {"payloads": payloads})
    assert response.json() == {"payloads": payloads}
    assert (await post(site, DECODE, {})).json() == {"payloads": []}


async def test_operator_gets_payloads_encrypted_with_the_newest_key(site: Site) -> None:
    response = await post(site, ENCODE, {"payloads": [as_json(PLAIN)]})
    [payload] = response.json()["payloads"]
    sealed = Payload(
        metadata={name: base64.b64decode(text) for name, text in payload["metadata"].items()},
        data=base64.b64decode(payload["data"]),
    )
    assert PayloadCipher([NEW_KEY]).decrypt(sealed) == PLAIN


@pytest.mark.parametrize("path", [DECODE, ENCODE])
async def test_only_operators_may_use_it(site: Site, issuer: Issuer, path: str) -> None:
    async def status(**headers: str) -> int:
        response = await site.http.post(path, json=BODY, headers=headers)
        assert b"Ada" not in response.content
        assert as_json(PLAIN)["data"] not in response.text
        return check_problem(response, response.status_code)["status"]  # type: ignore[no-any-return]  # JSON

    assert await status() == 401
    assert await status(Authorization="Basic eDp5") == 401
    assert await status(**issuer.headers(**OPERATOR, exp=int(time.time()) - 600)) == 401
    assert await status(**issuer.headers(**OPERATOR, scope="openid")) == 403
    assert await status(**issuer.headers()) == 403
    await site.start_session()
    assert await status() == 403
    response = await site.http.post(path, json=BODY, headers=issuer.headers(**OPERATOR))
    assert response.status_code == 200, "the token counts, and not the session"


async def test_page_of_another_site_gets_nothing(site: Site) -> None:
    """A page at a neighbouring host name can send the cookie, because it is the same site."""
    for origin in ("https://evil.service.example", f"{UI}:8443", "http://temporal.service.example"):
        headers = {"Origin": origin}
        response = await post(site, DECODE, BODY, headers=headers)
        check_problem(response, 403)
        assert "access-control-allow-origin" not in response.headers
        preflight = await site.http.options(
            DECODE, headers=headers | {"Access-Control-Request-Method": "POST"}
        )
        assert "access-control-allow-origin" not in preflight.headers
    assert (await post(site, DECODE, BODY, headers={"Origin": "null"})).status_code == 403
    assert (await post(site, DECODE, BODY, headers={"Origin": site.url})).status_code == 200


async def test_web_ui_may_call_it_with_the_session(site: Site, issuer: Issuer) -> None:
    asked = {
        "Origin": UI,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization,content-type,x-namespace",
    }
    preflight = await site.http.options(f"{DECODE}?preserveStorageRefs=true", headers=asked)
    assert preflight.status_code == 200
    allowed = preflight.headers["access-control-allow-headers"].lower()
    assert {"authorization", "content-type", "x-namespace"} <= set(allowed.split(", "))
    response = await post(site, DECODE, BODY, headers={"Origin": UI, "X-Namespace": "ours"})
    for each in (preflight, response):
        assert each.headers["access-control-allow-origin"] == UI
        assert each.headers["access-control-allow-credentials"] == "true"
    assert response.json() == {"payloads": [as_json(PLAIN)]}


async def test_refused_calls_are_in_the_security_log(
    site: Site, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.INFO, "smart_accounts.security")
    limit = RateLimitItemPerMinute(4, namespace=rate_limits.CODEC_CALLS.namespace)
    monkeypatch.setattr(rate_limits, "CODEC_CALLS", limit)
    assert (await site.http.post(DECODE, json=BODY)).status_code == 401
    await site.start_session()
    assert (await site.http.post(DECODE, json=BODY)).status_code == 403
    foreign = {"Origin": "https://evil.service.example"}
    assert (await post(site, DECODE, BODY, headers=foreign)).status_code == 403
    assert (await post(site, DECODE, BODY)).status_code == 200
    check_problem(await post(site, DECODE, BODY), 429)
    written = [json.loads(line) for line in caplog.messages if line.startswith("{")]
    assert [(line["event"], line["outcome"], line["reason"]) for line in written] == [
        ("authentication.token", "failure", "missing"),
        ("authorization.access", "failure", None),
        ("bypass.cross-site", "failure", "origin"),
        ("bypass.rate-limit", "failure", "codec-calls"),
    ]


async def test_without_a_web_ui_no_page_may_call_it(open_site: OpenSite, issuer: Issuer) -> None:
    async with open_site(payload_keys=NEW_KEY, **issuer.settings) as site:
        for origin in ("null", UI):
            response = await post(site, DECODE, BODY, headers={"Origin": origin})
            assert response.status_code == 403
        assert (await post(site, DECODE, BODY)).status_code == 200


async def test_without_keys_there_is_no_codec_server(open_site: OpenSite, issuer: Issuer) -> None:
    async with open_site(**issuer.settings) as site:
        assert (await post(site, DECODE, BODY)).status_code == 404


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"null",
        b'{"payloads": 1}',
        b'{"payloads": [1]}',
        b'{"payloads": ["x"]}',
        b'{"payloads": {"a": {}}}',
        b'{"payloads": [{"metadata": 1}]}',
        b'{"payloads": [{"metadata": {"encoding": 1}}]}',
        b'{"payloads": [{"metadata": {%s"x": ""}}]}'
        % b"".join(b'"%d": "",' % n for n in range(20)),
        b'{"payloads": [{"unknown": true}]}',
        b'{"payloads": [{"data": "\\ud800"}]}',
        b"[" * MAX_BODY,
        b"\xff",
    ],
    ids=lambda body: body[:40],
)
async def test_bad_body_is_rejected_in_one_line(site: Site, body: bytes) -> None:
    await site.start_session(is_operator=True)
    for path in (DECODE, ENCODE):
        response = await site.http.post(path, content=body)
        assert check_problem(response, 400)["detail"].endswith("list of payloads in JSON.")


async def test_size_is_limited(site: Site) -> None:
    await site.start_session(is_operator=True)
    for body in (b" " * (MAX_BODY + 1), b'{"payloads": [%s{}]}' % (b"{}," * MAX_PAYLOADS)):
        check_problem(await site.http.post(DECODE, content=body), 413)


def decrypt(payload: Payload) -> Payload | None:
    return CIPHER.decrypt(payload) if key_id_of(payload) else None


WORST = {
    "many payloads": [as_json(CIPHER.encrypt(PLAIN))] * MAX_PAYLOADS,
    "many entries": [{"metadata": {f"{number}": "" for number in range(20)}}] * MAX_PAYLOADS,
    "a large payload": [as_json(CIPHER.encrypt(Payload(data=b"x" * (MAX_BODY * 3 // 4 - 500))))],
}


@pytest.mark.parametrize("payloads", WORST.values(), ids=WORST)
def test_no_body_takes_long(payloads: list[Any]) -> None:
    body = json.dumps({"payloads": payloads}, separators=(",", ":")).encode()
    assert len(body) <= MAX_BODY
    assert cpu_seconds(changed_payloads, body, decrypt, enough=CALL_SECONDS) < CALL_SECONDS
    assert cpu_seconds(changed_payloads, body, CIPHER.encrypt, enough=CALL_SECONDS) < CALL_SECONDS
