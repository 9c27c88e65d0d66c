"""The identity provider is away or talks nonsense, or there is none."""

import asyncio
import time
from typing import Any

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from smart_accounts.errors import BadSetting
from smart_accounts.settings import load_settings
from smart_accounts.web.auth import provider
from smart_accounts.web.auth.provider import open_provider

CONFIGURATION = "/.well-known/openid-configuration"


def says_what_is_down(answer: httpx.Response) -> None:
    assert answer.status_code == 503
    assert answer.headers["retry-after"] == "10"
    assert "The identity provider" in answer.text
    assert "Traceback" not in answer.text


async def test_a_provider_that_is_not_there(visit: Any, free_port: Any) -> None:
    visitor = await visit(oidc_issuer=f"http://127.0.0.1:{free_port()}")
    answer = await visitor.http.get("/sign-in")
    says_what_is_down(answer)
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", ["", "/token", "/jwks", "/userinfo"])
async def test_a_provider_that_hangs_is_waited_for_less_than_five_seconds(
    visitor: Any, path: str
) -> None:
    back = await visitor.goes()
    del visitor.provider.person["company"]
    visitor.provider.hangs = path or CONFIGURATION
    began = time.monotonic()
    answer = await (visitor.comes_back(**back) if path else visitor.http.get("/sign-in"))
    says_what_is_down(answer)
    assert provider.TIMEOUT_SECONDS < 5
    assert time.monotonic() - began < 8  # on a busy machine


async def test_when_it_is_back_the_same_page_signs_in(visitor: Any) -> None:
    back = await visitor.goes()
    visitor.provider.answers["/token"] = JSONResponse({}, 502)
    answer = await visitor.comes_back(**back)
    says_what_is_down(answer)
    assert answer.headers["refresh"] == "10"
    visitor.provider.answers.clear()
    assert (await visitor.comes_back(**back)).status_code == 303


NONSENSE: list[Response] = [
    JSONResponse({}, 500),
    JSONResponse({}, 404),
    JSONResponse([]),
    JSONResponse({}),
    JSONResponse({"issuer": "x"}),
    PlainTextResponse("<html>"),
    RedirectResponse("https://elsewhere.example"),
]


@pytest.mark.parametrize("nonsense", NONSENSE)
async def test_a_configuration_that_is_none(visitor: Any, nonsense: Response) -> None:
    visitor.provider.answers[CONFIGURATION] = nonsense
    says_what_is_down(await visitor.http.get("/sign-in"))


@pytest.mark.parametrize("path", ["/token", "/jwks", "/userinfo"])
@pytest.mark.parametrize("nonsense", [NONSENSE[0], NONSENSE[2], NONSENSE[5]])
async def test_an_endpoint_that_talks_nonsense(visitor: Any, path: str, nonsense: Response) -> None:
    back = await visitor.goes()
    del visitor.provider.person["company"]
    visitor.provider.answers[path] = nonsense
    says_what_is_down(await visitor.comes_back(**back))


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": 5}, {"keys": [{"kty": "RSA"}]}])
async def test_keys_that_are_none_sign_nobody_in(visitor: Any, keys: Any) -> None:
    visitor.provider.answers["/jwks"] = JSONResponse(keys)
    visitor.stays_out(await visitor.signs_in(), "could not make sure")


async def test_a_provider_that_names_another_issuer_is_not_trusted(
    visitor: Any, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.provider.configuration["issuer"] = visitor.provider.token["iss"] = "http://evil.example"
    says_what_is_down(await visitor.http.get("/sign-in"))
    assert "SMART_ACCOUNTS_OIDC_ISSUER" in caplog.text


async def test_an_endpoint_that_is_no_web_address_is_not_followed(visitor: Any) -> None:
    visitor.provider.configuration["authorization_endpoint"] = "javascript:alert(1)"
    says_what_is_down(await visitor.http.get("/sign-in"))


# ---- nothing set up, or half ---------------------------------------------------------------


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/callback", "/sign-in/company"])
async def test_without_a_provider_the_pages_say_so(site: Any, path: str) -> None:
    answer = await site.http.get(path)
    assert answer.status_code == 501
    assert "Sign-in is not set up" in answer.text
    assert (await site.http.post("/sign-out")).status_code == 501
    assert 'href="/sign-in"' not in (await site.http.get("/")).text


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> Any:
    monkeypatch.chdir(tmp_path)

    def load(**given: str) -> Any:
        required = {
            "public_url": "https://accounts.example",
            "secret_keys": "k" * 32,
            "smtp_hostname": "mail.example",
            "mail_from": "a@service.example",
        }
        for name, value in (required | given).items():
            monkeypatch.setenv(f"SMART_ACCOUNTS_{name.upper()}", value)
        return load_settings()

    return load


ISSUER = {"oidc_issuer": "https://login.example"}


@pytest.mark.parametrize(
    ("given", "named"),
    [
        (ISSUER, "SMART_ACCOUNTS_OIDC_CLIENT_ID: is required"),
        ({**ISSUER, "oidc_client_id": ""}, "SMART_ACCOUNTS_OIDC_CLIENT_ID: is required"),
        ({"oidc_client_id": "us"}, "SMART_ACCOUNTS_OIDC_ISSUER: is required"),
        ({"oidc_client_secret": "s"}, "SMART_ACCOUNTS_OIDC_ISSUER: is required"),
    ],
)
async def test_half_a_provider_stops_the_web_with_one_line(
    settings: Any, given: dict[str, str], named: str
) -> None:
    loaded = settings(**given)  # the worker needs none of it
    with pytest.raises(BadSetting, match=named) as stopped:
        async with open_provider(loaded):
            pass
    assert "\n" not in str(stopped.value)


async def test_empty_settings_are_none(settings: Any) -> None:
    names = ("oidc_issuer", "oidc_client_id", "oidc_client_secret")
    async with open_provider(settings(**dict.fromkeys(names, ""))) as provider:
        assert provider is None


@pytest.mark.parametrize(
    "issuer", ["http://login.example", "login.example", "ftp://x", "https://", "https://x?a=b"]
)
def test_an_issuer_that_can_not_be_trusted_is_refused(settings: Any, issuer: str) -> None:
    with pytest.raises(BadSetting, match="SMART_ACCOUNTS_OIDC_ISSUER"):
        settings(oidc_issuer=issuer)


def test_an_issuer_is_kept_to_the_letter(settings: Any) -> None:
    for issuer in ("https://login.example", "https://login.example/", "http://127.0.0.1:9400"):
        assert settings(oidc_issuer=issuer).oidc_issuer == issuer


async def test_visitors_of_other_pages_do_not_wait_for_it(visitor: Any) -> None:
    visitor.provider.hangs = CONFIGURATION
    async with asyncio.timeout(provider.TIMEOUT_SECONDS - 0.5):
        assert (await visitor.http.get("/")).status_code == 200
