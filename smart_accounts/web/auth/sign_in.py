"""Signing in and out: the way to the OpenID provider and back.

``GET /sign-in?next=`` sends the browser to the provider, ``GET /sign-in/callback`` takes it back,
``POST /sign-out`` ends the session. No form is answered by a redirect to the provider: Chromium
holds the policy's ``form-action`` against it.
"""

import logging
import re
from dataclasses import replace

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import QueryParams

from smart_accounts.settings import Settings
from smart_accounts.store.partners import Partners
from smart_accounts.web.auth.claims import partner_from, wanted_claims
from smart_accounts.web.auth.id_tokens import SignInFailed
from smart_accounts.web.auth.login_attempt import LoginAttempt, LoginAttempts
from smart_accounts.web.auth.provider import Provider, ProviderDown
from smart_accounts.web.auth.session import NotSignedIn, Partner, Sessions, check_csrf, session_of
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.http.origins import asking_for_company, local_path
from smart_accounts.web.rendering import Pages

_log = logging.getLogger(__name__)


class SignIn:
    """The routes that speak to the provider, or send the browser there."""

    def __init__(
        self,
        provider: Provider,
        partners: Partners,
        attempts: LoginAttempts,
        sessions: Sessions,
        settings: Settings,
        pages: Pages,
    ) -> None:
        self._provider = provider
        self._partners = partners
        self._attempts = attempts
        self._sessions = sessions
        self._settings = settings
        self._page = pages
        self.router = APIRouter(include_in_schema=False)
        self.router.add_api_route("/sign-in", self.start, methods=["GET", "HEAD"])
        self.router.add_api_route("/sign-in/callback", self.finish, methods=["GET"])
        self.router.add_api_route("/sign-out", self.end, methods=["POST"])

    async def start(self, request: Request) -> Response:
        attempt = LoginAttempt.begin(local_path(request.query_params.get("next", "/")))
        response = RedirectResponse(await self._provider.sign_in_url(attempt), 303)
        self._attempts.keep(request, response, attempt)
        return response

    async def finish(self, request: Request) -> Response:
        query = request.query_params
        attempt = self._attempts.find(request, query.get("state", ""))
        if attempt is None:
            return self._failed(SignInFailed("state", "not begun in this browser, or long ago"))
        try:
            partner = await self._partner(query, attempt)
        except SignInFailed as failed:
            response = self._failed(failed)
        else:
            path = attempt.next if partner.company else asking_for_company(attempt.next)
            response = RedirectResponse(self._page.root + path, 303)
            self._sessions.begin(response, partner)
        self._attempts.end(response, attempt)
        return response

    async def _partner(self, query: QueryParams, attempt: LoginAttempt) -> Partner:
        if "error" in query:
            raise _refused(query["error"])
        issuer = self._provider.issuer
        if query.get("iss", issuer) != issuer:  # RFC 9207
            raise SignInFailed("token", "another issuer sent the browser back")
        claims = await self._provider.claims(
            query.get("code", ""), attempt, wanted_claims(self._settings)
        )
        partner = partner_from(claims, self._settings)
        if partner.company:
            return partner
        kept = await self._partners.company_of(issuer, partner.subject)
        return replace(partner, company=kept or "")

    def _failed(self, failed: SignInFailed) -> Response:
        _log.warning("sign-in failed: %s", failed)
        status = 400 if failed.problem in ("state", "token", "provider") else 403
        return self._page("sign-in-failed", status, problem=failed.problem, details=failed.details)

    async def end(self, request: Request) -> Response:
        form = await read_form(request)
        if session_of(request) is None:
            # Nothing is taken away: a form of another site comes without the cookie.
            raise NotSignedIn
        check_csrf(request, form)
        try:
            there = await self._provider.sign_out_url()
        except ProviderDown as away:
            _log.warning("signed out here alone: %s", away)
            there = None
        # The page goes on to the provider by itself; the form's own answer may not.
        headers = {"Refresh": f"0; url={there}"} if there else None
        response = self._page("signed-out", 200, headers, there=there)
        self._sessions.end(response)
        return response


def _refused(error: str) -> SignInFailed:
    """The provider sent the browser back with an error (RFC 6749, section 4.1.2.1)."""
    if error == "access_denied":
        return SignInFailed("denied", error)
    code = error if re.fullmatch(r"[a-z_]{1,60}", error) else "unknown"
    return SignInFailed("provider", code, (code,))
