"""The identity provider is down, sends invalid responses, or is not set up."""

import asyncio
import time
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from starlette.responses import JSONResponse, PlainTextResponse, RedirectResponse, Response

from smart_accounts.errors import BadSetting
from smart_accounts.settings import Settings, load_settings
from smart_accounts.web.auth import provider
from smart_accounts.web.auth.provider import open_provider
from tests.support.identity_provider import NewVisitor, Visitor
from tests.support.keys import KEY
from tests.support.ports import FreePort
from tests.support.site import Site

CONFIGURATION = "/.well-known/openid-configuration"


def check_outage_page(response: httpx.Response) -> None:
    assert response.status_code == 503
    assert response.headers["retry-after"] == "10"
    assert "The identity provider" in response.text
    assert "Traceback" not in response.text


async def test_provider_is_down(new_visitor: NewVisitor, free_port: FreePort) -> None:
    visitor = await new_visitor(oidc_issuer=f"http://127.0.0.1:{free_port()}")
    response = await visitor.http.get("/sign-in")
    check_outage_page(response)
    assert "set-cookie" not in response.headers


@pytest.mark.parametrize("path", ["", "/token", "/jwks", "/userinfo"])
async def test_silent_provider_costs_less_than_five_seconds(visitor: Visitor, path: str) -> None:
    back = await visitor.start_sign_in()
    del visitor.provider.person["company"]
    visitor.provider.silent_path = path or CONFIGURATION
    began = time.monotonic()
    response = await (visitor.open_callback(**back) if path else visitor.http.get("/sign-in"))
    check_outage_page(response)
    assert provider.TIMEOUT_SECONDS < 5
    assert time.monotonic() - began < 8  # a busy machine may be slow


async def test_reloading_the_page_signs_in_after_the_outage(visitor: Visitor) -> None:
    back = await visitor.start_sign_in()
    visitor.provider.responses["/token"] = JSONResponse({}, 502)
    response = await visitor.open_callback(**back)
    check_outage_page(response)
    assert response.headers["refresh"] == "10"
    visitor.provider.responses.clear()
    assert (await visitor.open_callback(**back)).status_code == 303


NESTED = "[" * 100_000  # deeper than a JSON parser goes
INVALID: list[Response] = [
    JSONResponse({}, 500),
    JSONResponse({}, 404),
    JSONResponse([]),
    JSONResponse({}),
    JSONResponse({"issuer": "x"}),
    PlainTextResponse("<html>"),
    RedirectResponse("https://elsewhere.example"),
    PlainTextResponse(NESTED),
]


@pytest.mark.parametrize("invalid", INVALID)
async def test_invalid_configuration(visitor: Visitor, invalid: Response) -> None:
    visitor.provider.responses[CONFIGURATION] = invalid
    check_outage_page(await visitor.http.get("/sign-in"))


@pytest.mark.parametrize("path", ["/token", "/jwks", "/userinfo"])
@pytest.mark.parametrize("invalid", [INVALID[0], INVALID[2], INVALID[5], INVALID[7]])
async def test_invalid_response_of_an_endpoint(
    visitor: Visitor, path: str, invalid: Response
) -> None:
    back = await visitor.start_sign_in()
    del visitor.provider.person["company"]
    visitor.provider.responses[path] = invalid
    check_outage_page(await visitor.open_callback(**back))


@pytest.mark.parametrize("access_token", ["é", "a\nb"])
async def test_access_token_that_no_header_can_carry(visitor: Visitor, access_token: str) -> None:
    back = await visitor.start_sign_in()
    del visitor.provider.person["company"]
    visitor.provider.token_response_changes["access_token"] = access_token
    check_outage_page(await visitor.open_callback(**back))


@pytest.mark.parametrize("keys", [{}, {"keys": []}, {"keys": 5}, {"keys": [{"kty": "RSA"}]}])
async def test_invalid_keys(visitor: Visitor, keys: dict[str, object]) -> None:
    visitor.provider.responses["/jwks"] = JSONResponse(keys)
    await visitor.check_rejected(await visitor.sign_in(), "could not verify")


async def test_configuration_of_another_issuer_is_rejected(
    visitor: Visitor, caplog: pytest.LogCaptureFixture
) -> None:
    visitor.provider.configuration_changes["issuer"] = "http://evil.example"
    visitor.provider.token_changes["iss"] = "http://evil.example"
    check_outage_page(await visitor.http.get("/sign-in"))
    assert "SMART_ACCOUNTS_OIDC_ISSUER" in caplog.text


async def test_endpoint_must_be_a_web_address(visitor: Visitor) -> None:
    visitor.provider.configuration_changes["authorization_endpoint"] = "javascript:alert(1)"
    check_outage_page(await visitor.http.get("/sign-in"))


@pytest.mark.parametrize("path", ["/sign-in", "/sign-in/callback", "/sign-in/company"])
async def test_pages_say_that_sign_in_is_not_set_up(site: Site, path: str) -> None:
    response = await site.http.get(path)
    assert response.status_code == 501
    assert "Sign-in is not set up" in response.text
    assert (await site.http.post("/sign-out")).status_code == 501
    assert 'href="/sign-in"' not in (await site.http.get("/")).text


LoadSettings = Callable[..., Settings]


@pytest.fixture
def load(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> LoadSettings:
    """Load settings from the environment, with these values changed."""
    monkeypatch.chdir(tmp_path)

    def load_changed(**changes: str) -> Settings:
        required = {
            "public_url": "https://accounts.example",
            "secret_keys": KEY,
            "smtp_hostname": "mail.example",
            "mail_from": "a@service.example",
        }
        for name, value in (required | changes).items():
            monkeypatch.setenv(f"SMART_ACCOUNTS_{name.upper()}", value)
        return load_settings()

    return load_changed


ISSUER = {"oidc_issuer": "https://login.example"}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        (ISSUER, "SMART_ACCOUNTS_OIDC_CLIENT_ID: is required"),
        ({**ISSUER, "oidc_client_id": ""}, "SMART_ACCOUNTS_OIDC_CLIENT_ID: is required"),
        ({"oidc_client_id": "us"}, "SMART_ACCOUNTS_OIDC_ISSUER: is required"),
        ({"oidc_client_secret": "s"}, "SMART_ACCOUNTS_OIDC_ISSUER: is required"),
    ],
)
async def test_incomplete_settings_stop_the_web_server_with_one_line(
    load: LoadSettings, values: dict[str, str], message: str
) -> None:
    settings = load(**values)  # valid for the worker, which needs no provider
    with pytest.raises(BadSetting, match=message) as stopped:
        async with open_provider(settings):
            pass
    assert "\n" not in str(stopped.value)


async def test_empty_settings_count_as_absent(load: LoadSettings) -> None:
    names = ("oidc_issuer", "oidc_client_id", "oidc_client_secret")
    async with open_provider(load(**dict.fromkeys(names, ""))) as provider:
        assert provider is None


@pytest.mark.parametrize(
    "issuer", ["http://login.example", "login.example", "ftp://x", "https://", "https://x?a=b"]
)
def test_unsafe_issuer_is_rejected(load: LoadSettings, issuer: str) -> None:
    with pytest.raises(BadSetting, match="SMART_ACCOUNTS_OIDC_ISSUER"):
        load(oidc_issuer=issuer)


def test_issuer_is_not_normalised(load: LoadSettings) -> None:
    for issuer in ("https://login.example", "https://login.example/", "http://127.0.0.1:9400"):
        assert load(oidc_issuer=issuer).oidc_issuer == issuer


async def test_other_pages_do_not_wait_for_the_provider(visitor: Visitor) -> None:
    visitor.provider.silent_path = CONFIGURATION
    async with asyncio.timeout(provider.TIMEOUT_SECONDS - 0.5):
        assert (await visitor.http.get("/")).status_code == 200
