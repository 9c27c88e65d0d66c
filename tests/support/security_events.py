"""What causes the events of the security log: a partner, a customer and strangers at one site."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from unittest.mock import patch

import httpx
from joserfc import jwt
from limits import RateLimitItemPerMinute
from starlette.responses import Response

from smart_accounts.contract.identity import Identity
from smart_accounts.errors import Unavailable
from smart_accounts.web.http import rate_limits
from tests.support.identity_provider import FakeProvider, Visitor
from tests.support.site import AGREED, Site

OTHER_SITE = {"Origin": "https://evil.example"}


@dataclass
class Scene:
    """A site with one open request of Pat, who is signed in."""

    visitor: Visitor
    domain: str
    token: str
    subject: str = "pat"
    """The person who is signed in."""
    endpoint_id: str | None = None
    """The webhook endpoint of Pat, once a cause has registered it."""

    @property
    def site(self) -> Site:
        return self.visitor.site

    @property
    def provider(self) -> FakeProvider:
        return self.visitor.provider

    @property
    def temporal(self) -> Any:
        return self.site.temporal

    @property
    def workflow_id(self) -> str:
        return f"smart-account-{self.domain}"

    async def sign_in(self, **changes: Any) -> None:
        await self.site.start_session(issuer=self.provider.url, **changes)
        self.subject = changes.get("subject", "pat")

    async def get(self, path: str, **more: Any) -> httpx.Response:
        return await self.site.http.get(path, **more)

    async def post(self, path: str, **form: str) -> httpx.Response:
        """Send a form with the CSRF token of the session."""
        form = {"csrf": (await self.visitor.open_session()).csrf} | form
        return await self.site.http.post(path, data=form)

    async def act(self, action: str, **form: str) -> httpx.Response:
        return await self.post(f"/requests/{self.workflow_id}/{action}", **form)

    async def call(self, path: str = "", body: Any = None, **claims: Any) -> httpx.Response:
        """Call the API with an access token of Pat, or of Pat with these claims."""
        url, provider = f"/api/v1/requests{path}", self.provider
        known = {"iss": provider.url, "aud": "us", "sub": "pat", "exp": int(time.time()) + 300}
        known |= {"scope": "smart-accounts", **provider.person}
        token = jwt.encode({"alg": "RS256", "kid": "one"}, known | claims, provider.key)
        headers = {"Authorization": f"Bearer {token}"}
        method = "GET" if body is None else "POST"
        return await self.site.http.request(method, url, json=body, headers=headers)

    def new_request(self, **changes: str) -> dict[str, str]:
        domain = f"other-{self.domain}"
        fields = {"account_name": "Other", "customer_email": f"ada@{domain}"}
        return fields | {"account_domain": domain} | changes


Cause = Callable[[Scene], Awaitable[httpx.Response]]


async def sign_in(scene: Scene) -> httpx.Response:
    return await scene.visitor.sign_in()


async def sign_in_as_operator(scene: Scene) -> httpx.Response:
    scene.provider.person["roles"] = ["smart-accounts-operator"]
    return await scene.visitor.sign_in()


async def return_without_a_start(scene: Scene) -> httpx.Response:
    return await scene.visitor.open_callback(state="unknown")


def return_with(error: str) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        query = await scene.visitor.start_sign_in()
        return await scene.visitor.open_callback(state=query["state"], error=error)

    return cause


def sign_in_with(**claims: Any) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        scene.provider.token_changes = claims
        return await scene.visitor.sign_in()

    return cause


async def sign_in_during_an_outage(scene: Scene) -> httpx.Response:
    scene.provider.responses["/token"] = Response(status_code=500)
    return await scene.visitor.sign_in()


async def sign_in_without_a_session(scene: Scene) -> httpx.Response:
    outage = Unavailable("The database does not respond.")
    with patch.object(scene.site.services.sessions, "begin", side_effect=outage):
        return await scene.visitor.sign_in()


async def enter_company(scene: Scene) -> httpx.Response:
    await scene.sign_in(company="")
    return await scene.post("/sign-in/company", company="Partner Ltd")


def signed_out(method: str, path: str, **options: Any) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        scene.site.http.cookies.clear()
        return await scene.site.http.request(method, path, **options)

    return cause


def call(path: str = "", **claims: Any) -> Cause:
    return lambda scene: scene.call(path, **claims)


def post(path: str, **form: str) -> Cause:
    return lambda scene: scene.post(path, **form)


async def end_own_session(scene: Scene) -> httpx.Response:
    session = await scene.visitor.open_session()
    return await scene.post(f"/sessions/{session.id}/end")


async def open_as_kim(scene: Scene) -> httpx.Response:
    await scene.sign_in(subject="kim", email="kim@reseller.example")
    return await scene.get(f"/requests/{scene.workflow_id}")


async def call_as_kim(scene: Scene) -> httpx.Response:
    scene.subject = "kim"
    return await scene.call(f"/{scene.workflow_id}", sub="kim", email="kim@reseller.example")


async def send_form_from_another_site(scene: Scene) -> httpx.Response:
    form = {"csrf": (await scene.visitor.open_session()).csrf}
    return await scene.site.http.post("/requests", data=form, headers=OTHER_SITE)


async def answer_from_another_site(scene: Scene) -> httpx.Response:
    path = f"/activate/{scene.token}"
    return await scene.site.http.post(path, data=AGREED, headers=OTHER_SITE)


async def try_many_links(scene: Scene) -> httpx.Response:
    for _ in range(30):
        await scene.get("/activate/unknown")
    return await scene.get("/activate/unknown")


async def sign_in_often(scene: Scene) -> httpx.Response:
    with patch.object(rate_limits, "SIGN_INS", RateLimitItemPerMinute(3, namespace="sign-ins")):
        for _ in range(3):
            await scene.get("/sign-in")
        return await scene.get("/sign-in")


async def fail_to_sign_in(scene: Scene) -> httpx.Response:
    scene.site.http.cookies.clear()
    for _ in range(30):
        await return_without_a_start(scene)
    return await return_without_a_start(scene)


async def reach_the_limit(scene: Scene) -> httpx.Response:
    return await scene.call(body=scene.new_request(customer_email=f"ada@{scene.domain}"))


def start(error: Exception | None = None, *, over_api: bool = False) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        scene.temporal.error = error
        request = scene.new_request()
        return await (scene.call(body=request) if over_api else scene.post("/requests", **request))

    return cause


def act(
    action: str, error: Exception | None = None, *, over_api: bool = False, operator: bool = False
) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        scene.temporal.action_error = error
        forms = {
            "replace-approver": {"customer_email": f"eve@{scene.domain}"},
            "reject": {"reason": "Unknown."},
            "close": {"reason": "A duplicate."},
        }
        form = forms.get(action, {})
        person = {"subject": "opal", "email": "opal@service.example"} if operator else {}
        await scene.sign_in(is_operator=operator, **person)
        if over_api:
            claims = {"sub": "opal", "email": "opal@service.example"} if operator else {}
            roles = ["smart-accounts-operator"] if operator else []
            path = f"/{scene.workflow_id}/{action}"
            return await scene.call(path, form, roles=roles, **claims)
        return await scene.act(action, **form)

    return cause


def answer(path: str = "", error: Exception | None = None) -> Cause:
    async def cause(scene: Scene) -> httpx.Response:
        scene.temporal.error = error
        return await scene.site.http.post(f"/activate/{scene.token}{path}", data=AGREED)

    return cause


def fail(cause: Cause) -> Cause:
    async def failing(scene: Scene) -> httpx.Response:
        async def find(*_: object, **__: object) -> None:
            raise RuntimeError("secret detail")

        store: Any = scene.site.store
        store.links.find = store.listing.page = find
        return await cause(scene)

    return failing


async def register_webhook(scene: Scene) -> httpx.Response:
    """Register an endpoint of a partner who has no other one."""
    await scene.sign_in(subject=scene.domain)
    form = {"url": "https://93.184.215.14/", "form_id": "a-form", "request.active": "yes"}
    response = await scene.post("/webhooks", **form)
    owner = Identity(scene.provider.url, scene.subject)
    scene.endpoint_id = (await scene.site.store.webhooks.list(owner))[0].id
    return response


def on_webhook(action: str, times: int = 1) -> Cause:
    """Register an endpoint and do this on its page. In its path, ``{delivery}`` is a delivery."""

    async def cause(scene: Scene) -> httpx.Response:
        response = await register_webhook(scene)
        assert scene.endpoint_id
        delivery = await scene.site.store.webhooks.ping(scene.endpoint_id, datetime.now(UTC))
        form = {"url": "https://93.184.215.15/", "request.active": "yes"}
        for _ in range(times):
            path = f"/webhooks/{scene.endpoint_id}/{action}".format(delivery=delivery)
            response = await scene.post(path, **form)
        return response

    return cause


async def resume_webhook(scene: Scene) -> httpx.Response:
    await on_webhook("pause")(scene)
    return await scene.post(f"/webhooks/{scene.endpoint_id}/resume")


async def ping_paused_webhook(scene: Scene) -> httpx.Response:
    await on_webhook("pause")(scene)
    return await scene.post(f"/webhooks/{scene.endpoint_id}/ping")


async def forge_webhook_for_all(scene: Scene) -> httpx.Response:
    form = {"url": "https://93.184.215.14/", "request.active": "yes", "for_all_requests": "yes"}
    return await scene.post("/webhooks", **form)
