"""Signing in and out.

``GET /sign-in?next=`` redirects to the identity provider, and ``GET /sign-in/callback`` is where
the browser returns. ``POST /sign-out`` ends the session. No form is followed by a redirect to the
provider, because Chromium applies the ``form-action`` of the Content-Security-Policy to redirects.
"""

import logging
import re
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import RedirectResponse
from starlette.datastructures import QueryParams

from smart_accounts.store.sessions import Partner, Session
from smart_accounts.web.auth.claims import partner_from, wanted_claims
from smart_accounts.web.auth.issuer import ProviderDown
from smart_accounts.web.auth.login_attempt import Destination, LoginAttempt, SignInFailed
from smart_accounts.web.auth.provider import Provider
from smart_accounts.web.dependencies import OpenSession, Services, SessionForm, Web
from smart_accounts.web.http.origins import company_path, local_path
from smart_accounts.web.security_log import Event, Outcome

_log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


class NoProvider(Exception):
    """No identity provider is set up, so nobody can sign in."""


async def _provider(web: Web) -> Provider:
    if web.provider is None:
        raise NoProvider
    return web.provider


ProviderInUse = Annotated[Provider, Depends(_provider)]


@router.api_route("/sign-in", methods=["GET", "HEAD"])
async def sign_in(request: Request, provider: ProviderInUse, web: Web) -> Response:
    path = local_path(request.query_params.get("next", "/"))
    return await _redirect_to_provider(request, provider, web, Destination(next=path))


async def _redirect_to_provider(
    request: Request, provider: Provider, web: Services, destination: Destination
) -> Response:
    attempt = web.login_attempts.begin(destination)
    response = RedirectResponse(await provider.sign_in_url(attempt), 303)
    web.login_attempts.keep(request, response, attempt)
    return response


@router.get("/sign-in/callback")
async def return_from_provider(request: Request, provider: ProviderInUse, web: Web) -> Response:
    query = request.query_params
    session = await web.sessions.find(request)
    destination = web.login_attempts.destination(query.get("state", ""))
    attempt = web.login_attempts.find(request, query.get("state", ""))
    if attempt is None or destination is None:
        return await _continue_without_attempt(request, provider, web, session, destination)
    try:
        with web.security_log.outcome_of(request, Event.SIGN_IN):
            partner, id_token = await _signed_in_partner(web, provider, query, attempt)
            request.state.partner = partner
            if partner.email_verified:
                now = datetime.now(UTC)
                await web.store.adoption.claim_address(partner.email, partner.identity, now)
            path = destination.next if partner.company else company_path(destination.next)
            response: Response = RedirectResponse(web.pages.root + path, 303)
            await web.sessions.begin(request, response, partner, session, id_token)
    except SignInFailed as failed:
        response = _failed(web, failed, session, destination)
    web.login_attempts.end(response, attempt)
    return response


async def _continue_without_attempt(
    request: Request,
    provider: Provider,
    web: Services,
    session: Session | None,
    destination: Destination | None,
) -> Response:
    """Respond to a browser that did not begin this sign-in, or began it too long ago.

    This happens because Office programs follow redirects themselves: the sign-in begins in the
    program and ends in the browser. But another site could also send the browser here with a code
    of its own, so the code is never used, and the person signs in again. This is done only once,
    because a browser that blocks cookies would be redirected forever. So the state of the second
    try says that it is the second.
    """
    query = request.query_params
    failed = SignInFailed("state", "not started in this browser, or more than ten minutes ago")
    web.security_log.write(request, Event.SIGN_IN, Outcome.FAILURE, failed.problem)
    if session:
        return RedirectResponse(web.pages.root + (destination.next if destination else "/"), 303)
    if "error" in query:
        failed = _provider_error(query["error"])
    elif destination and not destination.is_second_try:
        again = replace(destination, is_second_try=True)
        return await _redirect_to_provider(request, provider, web, again)
    elif destination:
        failed = SignInFailed("cookies", "the browser sent no cookie for the second time")
    return _failed(web, failed, None, destination)


@router.post("/sign-out")
async def sign_out(
    request: Request, provider: ProviderInUse, session: OpenSession, _: SessionForm, web: Web
) -> Response:
    id_token = await web.sessions.id_token(request, session)
    await web.sessions.sign_out(session)
    web.security_log.write(request, Event.SIGN_OUT, Outcome.SUCCESS)
    return await signed_out_page(provider, id_token, web)


async def signed_out_page(provider: Provider, id_token: str | None, web: Services) -> Response:
    """Return the page that continues to the sign-out at the identity provider.

    Call this when the session has ended, because a failure here must not keep it open.
    """
    try:
        url = await provider.sign_out_url(id_token)
    except ProviderDown as down:
        _log.warning("signed out here, but not at the identity provider: %s", down)
        url = None
    # The page continues to the provider by itself, because a form must not lead to a redirect.
    headers = {"Refresh": f"0; url={url}"} if url else None
    response = web.pages("signed-out", 200, headers, provider_url=url)
    web.sessions.delete_cookie(response)
    return response


async def _signed_in_partner(
    web: Services, provider: Provider, query: QueryParams, attempt: LoginAttempt
) -> tuple[Partner, str]:
    """Return the partner and the ID token."""
    if "error" in query:
        raise _provider_error(query["error"])
    issuer = provider.issuer.url
    if query.get("iss", issuer) != issuer:  # RFC 9207
        raise SignInFailed("token", "another issuer sent the browser back")
    wanted = wanted_claims(web.settings)
    claims, id_token = await provider.claims(query.get("code", ""), attempt, wanted)
    partner = partner_from(claims, web.settings)
    if partner.company:
        return partner, id_token
    stored = await web.store.partners.company_of(issuer, partner.subject)
    return replace(partner, company=stored or ""), id_token


def _failed(
    web: Services, failed: SignInFailed, session: Session | None, destination: Destination | None
) -> Response:
    _log.warning("sign-in failed: %s", failed)
    return web.pages(
        "sign-in-failed",
        400 if failed.problem in ("state", "cookies", "token", "provider") else 403,
        problem=failed.problem,
        details=failed.details,
        next=destination.next if destination else "/",
        partner=session.partner if session else None,
        csrf=session.csrf if session else "",
    )


def _provider_error(error: str) -> SignInFailed:
    """Return the failure for an error of the provider (RFC 6749 §4.1.2.1)."""
    if error == "access_denied":
        return SignInFailed("denied", error)
    code = error if re.fullmatch(r"[a-z_]{1,60}", error) else "unknown"
    return SignInFailed("provider", code, (code,))
