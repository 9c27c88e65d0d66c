"""Sign-in at two real providers: that of ``make run``, and a certified one."""

import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import httpx
import pytest
import yaml
from playwright.async_api import Page, Route, expect

from smart_accounts.local.people import provider_command
from tests.support.browser import OpenPage
from tests.support.npm import find_program, link_packages
from tests.support.ports import FreePort
from tests.support.site import OpenSite, Site

HERE = Path(__file__).parent
ROOT = HERE.parents[2]
LOCAL = {"oidc_client_id": "smart-accounts", "oidc_client_secret": "any"}
CERTIFIED_SITE = "https://accounts.example"  # as provider.mjs has registered it


@contextmanager
def running(command: list[str | Path], url: str, **options: Any) -> Iterator[str]:
    """Run the program of a provider until the block ends."""
    quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **quiet | options) as process:
        give_up_at = time.monotonic() + 60
        try:
            while not responds(f"{url}/.well-known/openid-configuration"):
                assert process.poll() is None, "the provider ended"
                assert time.monotonic() < give_up_at, "the provider does not respond"
                time.sleep(0.05)
            yield url
        finally:
            process.kill()


def responds(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture(scope="session")
def local_provider(free_port: FreePort) -> Iterator[str]:
    port = free_port()
    with running(provider_command(port), f"http://127.0.0.1:{port}") as issuer:
        yield issuer


@pytest.fixture(scope="session")
def certified_provider(
    free_port: FreePort, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[str]:
    """npm's ``oidc-provider``, which checks PKCE, the redirect address and the client secret."""
    folder = tmp_path_factory.mktemp("provider")
    shutil.copy(HERE / "provider.mjs", folder)
    link_packages(HERE, folder)
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    environment = os.environ | {"PORT": str(port), "ISSUER": url}
    with running(
        [find_program("node"), "provider.mjs"], url, cwd=folder, env=environment
    ) as issuer:
        yield issuer


@pytest.fixture
async def person() -> AsyncIterator[httpx.AsyncClient]:
    """The browser of a person at the provider."""
    async with httpx.AsyncClient(timeout=30) as browser:
        yield browser


async def session_at(site: Site) -> tuple[str, str] | None:
    """Return the name of the partner and the CSRF token that the layout shows."""
    page = (await site.http.get("/")).text
    name = re.search(r"<p><bdi>([^<]*)</bdi><small>", page)
    csrf = re.search(r'"csrf" value="(.*)"', page)
    return (unescape(name[1]), csrf[1]) if name and csrf else None


# ---- the local provider --------------------------------------------------------------------


@pytest.mark.parametrize("who", ["Pat Lee", "Kim Roy", "Oda Ray (operator)"])
async def test_people_of_make_run_sign_in(
    open_site: OpenSite, local_provider: str, person: httpx.AsyncClient, who: str
) -> None:
    async with open_site(oidc_issuer=local_provider, **LOCAL) as site:
        sent = await site.http.get("/sign-in?next=/requests")
        back = await person.post(sent.headers["location"], data={"sub": who})
        assert back.next_request
        done = await site.http.get("/sign-in/callback", params=back.next_request.url.params)
        assert (done.status_code, done.headers["location"]) == (303, "/requests")
        session = await session_at(site)
        assert session
        assert session[0] == who.partition(" (")[0]


async def test_unknown_person_has_no_verified_address(
    open_site: OpenSite, local_provider: str, person: httpx.AsyncClient
) -> None:
    async with open_site(oidc_issuer=local_provider, **LOCAL) as site:
        sent = await site.http.get("/sign-in")
        back = await person.post(sent.headers["location"], data={"sub": "eve@evil.example"})
        assert back.next_request
        done = await site.http.get("/sign-in/callback", params=back.next_request.url.params)
        assert done.status_code == 403
        assert await session_at(site) is None


async def test_people_of_the_compose_file_sign_in(
    open_site: OpenSite, free_port: FreePort, person: httpx.AsyncClient
) -> None:
    service = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["provider"]
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    program = Path(sys.executable).with_name("oidc-provider-mock")  # what the image runs
    with running([program, f"--port={port}", *service["command"]], url) as issuer:
        async with open_site(oidc_issuer=issuer, **LOCAL) as site:
            sent = await site.http.get("/sign-in?next=/requests")
            back = await person.post(sent.headers["location"], data={"sub": "Oda Ray (operator)"})
            assert back.next_request
            await site.http.get("/sign-in/callback", params=back.next_request.url.params)
            session = await session_at(site)
            assert session
            assert session[0] == "Oda Ray"
            assert " · operator" in (await site.http.get("/")).text


# ---- the certified provider ----------------------------------------------------------------


async def sign_in_at_provider(person: httpx.AsyncClient, url: str, login: str) -> httpx.URL:
    """Sign in and consent. Return the address to which the provider sends the browser back."""
    response = await person.get(url)
    for _ in range(20):
        if response.next_request and str(response.next_request.url).startswith(CERTIFIED_SITE):
            return response.next_request.url
        if response.next_request:
            response = await person.send(response.next_request)
            continue
        assert response.status_code == 200, response.text
        action = re.search(r'<form[^>]* action="([^"]+)"', response.text)
        assert action
        hidden = re.findall(r'type="hidden" name="(\w+)" value="(\w*)"', response.text)
        form = dict(hidden) | {"login": login, "password": "any"}
        response = await person.post(urljoin(str(response.url), unescape(action[1])), data=form)
    raise AssertionError("the provider does not send the browser back")


@pytest.mark.parametrize("secret", ["a secret: 100% ours", None])
async def test_certified_provider_signs_in_and_out(
    open_site: OpenSite, certified_provider: str, person: httpx.AsyncClient, secret: str | None
) -> None:
    client = "confidential" if secret else "public"
    async with open_site(
        public_url=CERTIFIED_SITE,
        oidc_issuer=certified_provider,
        oidc_client_id=client,
        oidc_client_secret=secret,
    ) as site:
        sent = await site.http.get("/sign-in?next=/requests")
        back = await sign_in_at_provider(person, sent.headers["location"], "pat")
        assert back.params["iss"] == certified_provider
        done = await site.http.get("/sign-in/callback", params=back.params)
        assert (done.status_code, done.headers["location"]) == (303, "/requests"), done.text
        session = await session_at(site)
        assert session
        name, csrf = session
        assert name == "Pat Lee"

        out = await site.http.post("/sign-out", data={"csrf": csrf})
        assert await session_at(site) is None
        url = out.headers["refresh"].partition("url=")[2]
        assert "&id_token_hint=" in url
        forged = await person.get(url.replace("id_token_hint=ey", "id_token_hint=e"))
        assert forged.status_code == 400  # so the provider does look at the hint
        assert str(await sign_in_at_provider(person, url, "pat")) == f"{CERTIFIED_SITE}/"


async def test_link_in_an_office_document_opens_its_page(
    open_site: OpenSite, certified_provider: str, person: httpx.AsyncClient
) -> None:
    """Office follows the redirects, and the browser opens the page where they end."""
    settings = {"oidc_issuer": certified_provider, "oidc_client_id": "public"}
    async with open_site(public_url=CERTIFIED_SITE, **settings) as site:
        office = httpx.AsyncClient(transport=httpx.ASGITransport(site.app))
        response = await office.get(f"{CERTIFIED_SITE}/requests?search=acme")
        while response.headers["location"].startswith("/"):
            response = await office.get(CERTIFIED_SITE + response.headers["location"])
        back = await sign_in_at_provider(person, response.headers["location"], "pat")
        again = await site.http.get("/sign-in/callback", params=back.params)
        # The provider knows the person now, so it shows no page.
        back = await sign_in_at_provider(person, again.headers["location"], "nobody")
        done = await site.http.get("/sign-in/callback", params=back.params)
        assert (done.status_code, done.headers["location"]) == (303, "/requests?search=acme")
        session = await session_at(site)
        assert session
        assert session[0] == "Pat Lee"


async def test_certified_provider_with_an_unverified_address(
    open_site: OpenSite, certified_provider: str, person: httpx.AsyncClient
) -> None:
    settings = {"oidc_issuer": certified_provider, "oidc_client_id": "public"}
    async with open_site(public_url=CERTIFIED_SITE, **settings) as site:
        sent = await site.http.get("/sign-in")
        back = await sign_in_at_provider(person, sent.headers["location"], "unverified")
        done = await site.http.get("/sign-in/callback", params=back.params)
        assert done.status_code == 403
        assert "has not verified your email address" in done.text


async def test_wrong_client_secret_is_logged(
    open_site: OpenSite,
    certified_provider: str,
    person: httpx.AsyncClient,
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with open_site(
        public_url=CERTIFIED_SITE,
        oidc_issuer=certified_provider,
        oidc_client_id="confidential",
        oidc_client_secret="wrong",
    ) as site:
        sent = await site.http.get("/sign-in")
        back = await sign_in_at_provider(person, sent.headers["location"], "pat")
        done = await site.http.get("/sign-in/callback", params=back.params)
        assert done.status_code == 400
    assert "the code was rejected: invalid_client" in caplog.text


# ---- in a browser --------------------------------------------------------------------------


async def block_other_machines(page: Page) -> None:
    """Block the style sheet that the local provider's pages load from the internet."""

    async def continue_or_abort(route: Route) -> None:
        is_local = route.request.url.startswith("http://127.0.0.1:")
        await (route.continue_() if is_local else route.abort())

    await page.route("**", continue_or_abort)


@pytest.mark.parametrize("scripts", [True, False])
async def test_sign_in_and_out_in_a_browser(
    open_served_site: OpenSite, local_provider: str, new_page: OpenPage, scripts: bool
) -> None:
    async with (
        open_served_site(oidc_issuer=local_provider, **LOCAL) as site,
        new_page(java_script_enabled=scripts) as page,
    ):
        await block_other_machines(page)
        messages: list[str] = []
        page.on("console", lambda message: messages.append(message.text))
        await page.goto(site.url)
        await page.get_by_role("link", name="Sign in").click()
        await page.get_by_role("button", name="Pat Lee").click()
        await expect(page.get_by_text("Pat Lee")).to_be_visible()
        assert page.url == f"{site.url}/"
        [cookie] = await page.context.cookies(site.url)
        assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == ("session", True, "Lax")

        await page.get_by_role("button", name="Sign out").click()
        # Our page continues at the provider, although our policy has form-action 'self'.
        await page.get_by_role("button", name="End session").click()
        await expect(page.get_by_role("link", name="Sign in")).to_be_visible()
        assert page.url == f"{site.url}/"
        assert await page.context.cookies(site.url) == []
        assert [text for text in messages if "Content Security Policy" in text] == []


async def test_company_page_in_a_browser(
    open_served_site: OpenSite, local_provider: str, new_page: OpenPage
) -> None:
    claims = {"email": "new@partner.example", "email_verified": True, "name": "Ny Partner"}
    httpx.put(f"{local_provider}/users/new", json=claims).raise_for_status()
    async with (
        open_served_site(oidc_issuer=local_provider, **LOCAL) as site,
        new_page(viewport={"width": 390, "height": 800}) as page,
    ):
        await block_other_machines(page)
        await page.goto(f"{site.url}/sign-in")
        await page.get_by_placeholder("sub").fill("new")
        await page.get_by_role("button", name="Authorize").click()
        await page.get_by_label("Company").fill("<Ltd>")
        await page.keyboard.press("Enter")
        await expect(page.get_by_text("must not contain < or >")).to_be_visible()
        await expect(page.get_by_label("Company")).to_be_focused()
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
        await page.get_by_label("Company").fill("Ny Ltd")
        await page.get_by_role("button", name="Continue").click()
        await expect(page.get_by_role("heading", level=1)).to_have_text("Smart Account requests")
        assert await page.evaluate("document.documentElement.scrollWidth") == 390
