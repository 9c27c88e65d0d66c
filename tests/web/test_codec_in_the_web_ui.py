"""Temporal's real Web UI and command line show encrypted payloads, to operators only."""

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace

import pytest
from playwright.async_api import Page, expect
from temporalio.client import Client

from smart_accounts.contract.names import TASK_QUEUE, WORKFLOW_TYPE
from smart_accounts.temporal.codec import client_data_converter
from tests.support.browser import OpenPage
from tests.support.issuer import Issuer
from tests.support.keys import NEW_KEY
from tests.support.partners import OPERATOR, session_cookie
from tests.support.ports import FreePort
from tests.support.site import OpenSite, Site
from tests.support.temporal_server import DevServer, NewDevServer
from tests.support.web_settings import client_settings

WORKFLOW = "smart-account-kestrel.example"
SECRET = "Kestrel Holdings"


@dataclass
class Scene:
    site: Site
    server: DevServer
    ui_port: int

    def url(self, host: str) -> str:
        return f"http://{host}:{self.ui_port}/namespaces/default/workflows/{WORKFLOW}"

    async def configure(self, page: Page) -> None:
        """Store what an operator enters under "Codec Server" in the Web UI."""
        settings = {
            "endpoint": json.dumps(f"{self.site.url}/codec"),
            "overrideRemoteCodecConfiguration": "true",
            "includeCredentials": "true",
        }
        await page.add_init_script(
            "".join(f"localStorage.setItem({k!r}, {v!r});" for k, v in settings.items())
        )


@pytest.fixture
async def scene(
    open_served_site: OpenSite, new_dev_server: NewDevServer, free_port: FreePort, issuer: Issuer
) -> AsyncIterator[Scene]:
    """A request with an encrypted input, and a site whose setting names the Web UI's address."""
    ui_port = free_port()
    ui_url = f"http://127.0.0.1:{ui_port}/namespaces/default"
    settings = issuer.settings | {"payload_keys": NEW_KEY, "temporal_ui_url": ui_url}
    server = new_dev_server(ui_port=ui_port)
    async with open_served_site(**settings) as site:
        await server.start()
        try:
            converter = client_data_converter(client_settings(payload_keys=NEW_KEY))
            client = await Client.connect(server.address, data_converter=converter)
            await client.start_workflow(
                WORKFLOW_TYPE, {"account_name": SECRET}, id=WORKFLOW, task_queue=TASK_QUEUE
            )
            yield Scene(site, server, ui_port)
        finally:
            await server.stop()


async def test_operator_reads_the_input_in_the_web_ui_and_on_the_command_line(
    scene: Scene, issuer: Issuer, new_page: OpenPage
) -> None:
    name, value = await session_cookie(scene.site.app, replace(OPERATOR, issuer=issuer.url))
    async with new_page() as page:
        await page.context.add_cookies([{"name": name, "value": value, "url": scene.site.url}])
        await scene.configure(page)
        # The same Web UI under another address is another site for the browser.
        async with page.expect_event("requestfailed", lambda call: "/codec/" in call.url):
            await page.goto(scene.url("localhost"))
        await expect(page.get_by_test_id("workflow-id-heading")).to_be_visible()
        assert SECRET not in await page.content()
        await page.goto(scene.url("127.0.0.1"))
        await expect(page.get_by_text(SECRET).first).to_be_attached()

    show = ("workflow", "show", "--detailed", "--workflow-id", WORKFLOW)
    assert SECRET not in (await scene.server.cli(*show)).stdout
    token = issuer.token(roles=["smart-accounts-operator"])
    codec = ("--codec-endpoint", f"{scene.site.url}/codec", "--codec-auth", f"Bearer {token}")
    assert SECRET in (await scene.server.cli(*show, *codec)).stdout
