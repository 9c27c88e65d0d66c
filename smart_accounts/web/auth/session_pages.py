"""Where a person is signed in, and signing out there. Operators may do this for a person."""

import re
from urllib.parse import urlencode

from fastapi import APIRouter, HTTPException, Request, Response
from fastapi.responses import RedirectResponse

from smart_accounts.contract.identity import Identity
from smart_accounts.text import one_line
from smart_accounts.web.auth.sign_in import ProviderInUse, signed_out_page
from smart_accounts.web.dependencies import OpenSession, Page, SessionForm, Web
from smart_accounts.web.security_log import Event, Outcome

MAX_EMAIL = 254

router = APIRouter(prefix="/sessions", include_in_schema=False)


@router.api_route("", methods=["GET", "HEAD"])
async def list_sessions(session: OpenSession, page: Page, web: Web, email: str = "") -> Response:
    """Show the person's own sessions, or to an operator those of ``email``."""
    email = _searched(session, email)
    found = (
        await web.sessions.of_email(email)
        if email
        else await web.sessions.of_person(session.partner)
    )
    return page("sessions", sessions=found, current=session, email=email, browser=browser_name)


@router.post("/end-all")
async def end_all(
    request: Request,
    provider: ProviderInUse,
    session: OpenSession,
    form: SessionForm,
    web: Web,
) -> Response:
    """Sign the person out everywhere, or for an operator the people with this email address."""
    if email := _searched(session, form.get("email", "")):
        for person in await web.sessions.end_of_email(email):
            _log_end(web, request, "all-sessions", person)
        return _redirect_to_list(web, email)
    id_token = await web.sessions.id_token(request, session)
    await web.sessions.sign_out_everywhere(session)
    _log_end(web, request, "all-sessions", session.partner.identity)
    return await signed_out_page(provider, id_token, web)


@router.post("/{session_id}/end")
async def end(
    request: Request,
    session_id: str,
    session: OpenSession,
    form: SessionForm,
    web: Web,
) -> Response:
    # PostgreSQL fails at an id with the character NUL.
    is_id = re.fullmatch("[0-9a-f]{64}", session_id)
    person = await web.sessions.end(session_id, by=session.partner) if is_id else None
    if person is None:
        web.security_log.write(request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(404)
    _log_end(web, request, "one-session", person)
    return _redirect_to_list(web, _searched(session, form.get("email", "")))


def _log_end(web: Web, request: Request, reason: str, person: Identity) -> None:
    web.security_log.write(
        request, Event.SIGN_OUT, Outcome.SUCCESS, reason, signed_out_person=person
    )


def _searched(session: OpenSession, email: str) -> str:
    """Return the email address whose sessions an operator asks for, otherwise an empty text."""
    return one_line(email[:MAX_EMAIL]) if session.partner.is_operator else ""


def _redirect_to_list(web: Web, email: str) -> Response:
    query = f"?{urlencode({'email': email})}" if email else ""
    return RedirectResponse(f"{web.pages.root}/sessions{query}", 303)


_BROWSERS = {"Edg": "Edge", "OPR": "Opera", "Firefox": "Firefox", "Chrome": "Chrome"}
_BROWSERS |= {"CriOS": "Chrome", "FxiOS": "Firefox", "Safari": "Safari"}
_SYSTEMS = {"iPhone": "iPhone", "iPad": "iPad", "Android": "Android", "Windows": "Windows"}
_SYSTEMS |= {"Mac OS X": "Mac", "CrOS": "ChromeOS", "Linux": "Linux"}


def browser_name(user_agent: str) -> str:
    """Return a name that people recognise, such as ``Firefox on Windows``, or the user agent."""
    # The order counts, because most browsers also name browsers that they resemble.
    browser = next((name for word, name in _BROWSERS.items() if f"{word}/" in user_agent), None)
    system = next((name for word, name in _SYSTEMS.items() if word in user_agent), None)
    if browser and system:
        return f"{browser} on {system}"
    return user_agent or "Unknown"
