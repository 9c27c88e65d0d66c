"""Dependencies of the routes: shared objects, the session, and the request in the path."""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated

from fastapi import Depends, HTTPException, Request, Response
from fastapi.responses import HTMLResponse
from temporalio.common import MetricMeter

from smart_accounts.contract.actions import Role
from smart_accounts.contract.messages import Status
from smart_accounts.errors import Unavailable
from smart_accounts.settings import Settings
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.sessions import Partner, Session
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.codec import PayloadCipher
from smart_accounts.temporal.readiness import DependencyCheck
from smart_accounts.tokens import LinkTokens
from smart_accounts.web import audit
from smart_accounts.web.auth.login_attempt import LoginAttempts
from smart_accounts.web.auth.provider import Provider
from smart_accounts.web.auth.session import CompanyMissing, NotSignedIn, Sessions
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.http.origins import is_cross_origin, is_own_origin
from smart_accounts.web.lookup import actor, find_request
from smart_accounts.web.rendering import Pages
from smart_accounts.web.security_log import Event, Outcome, SecurityLog
from smart_accounts.web.submission import Submission

# Enough for two notes, each 12 KB if percent-encoded, and 50 addresses.
MAX_SESSION_FORM = 48 * 1024  # bytes


@dataclass(frozen=True, kw_only=True)
class Services:
    """The shared objects of the application. ``app.state.services`` holds them."""

    settings: Settings
    store: AccountStore
    client: RequestClient
    dependency_check: DependencyCheck
    tokens: LinkTokens
    payload_cipher: PayloadCipher
    pages: Pages
    sessions: Sessions
    login_attempts: LoginAttempts
    submission: Submission
    provider: Provider | None
    """Without a provider nobody can sign in or call the API."""
    security_log: SecurityLog
    meter: MetricMeter
    closing: asyncio.Event = field(default_factory=asyncio.Event)
    """Set when the server shuts down, so that event streams end."""
    event_streams: Counter[str] = field(default_factory=Counter)
    """How many event streams each session has open in this process."""
    answers: dict[tuple[str, int], str] = field(default_factory=dict)
    """Answers that Temporal has and the store could not note, by request id and link ordinal."""


async def _services(request: Request) -> Services:
    services: Services = request.app.state.services
    return services


Web = Annotated[Services, Depends(_services)]


async def _session(request: Request, web: Web) -> Session | Unavailable | None:
    try:
        session = await web.sessions.find(request)
    except Unavailable as outage:  # pages that need no session are still shown
        return outage
    request.state.partner = session.partner if session else None  # for the security log
    return session


CurrentSession = Annotated[Session | Unavailable | None, Depends(_session)]
"""The session, or None, or the error if the database does not respond."""


async def _open_session(request: Request, session: CurrentSession) -> Session:
    if request.method == "POST":
        # Before anything else can fail, because the error pages keep what was typed.
        await read_form(request, MAX_SESSION_FORM)
    if isinstance(session, Session):
        return session
    raise session or NotSignedIn


OpenSession = Annotated[Session, Depends(_open_session)]
"""The session. The partner's company may not be known yet."""


async def _audit(request: Request, web: Web) -> audit.Audit:
    return audit.Audit(web.store, request)


Audit = Annotated[audit.Audit, Depends(_audit)]


async def _signed_in(session: OpenSession, recorder: Audit) -> Partner:
    if not session.partner.company:
        raise CompanyMissing
    await recorder.adopt_requests(session.partner)
    return session.partner


SignedIn = Annotated[Partner, Depends(_signed_in)]


@dataclass(frozen=True)
class SentForm:
    """A form from a page of this site. ``is_current`` is False if another session opened it."""

    fields: dict[str, str]
    is_current: bool


async def _sent_form(request: Request, session: OpenSession, web: Web) -> SentForm:
    fields: dict[str, str] = request.state.form
    headers, url = request.headers, web.settings.base_url
    is_current = session.owns_form(fields.get("csrf", ""))
    if not is_current or is_cross_origin(headers, url):
        reason = "origin" if is_current else "token"
        web.security_log.write(request, Event.CROSS_SITE, Outcome.FAILURE, reason)
        if not is_own_origin(headers, url):
            raise HTTPException(403)
    return SentForm(fields, is_current)


AnySessionForm = Annotated[SentForm, Depends(_sent_form)]
"""A form that may be shown again. The route must do nothing else unless it is current."""


async def _session_form(form: AnySessionForm) -> dict[str, str]:
    if not form.is_current:
        raise HTTPException(403)
    return form.fields


SessionForm = Annotated[dict[str, str], Depends(_session_form)]
"""The fields of a form that was sent from a page of this session."""


class Responded(Exception):
    """Raised by a dependency to respond in place of the route."""

    def __init__(self, response: Response) -> None:
        self.response = response


async def _page(session: CurrentSession, web: Web) -> Callable[..., HTMLResponse]:
    if isinstance(session, Session):
        return partial(web.pages, partner=session.partner, csrf=session.csrf)
    return partial(web.pages, partner=None, csrf="")


Page = Annotated[Callable[..., HTMLResponse], Depends(_page)]
"""``Pages.__call__`` for a page that shows who is signed in, if the database responds."""


async def _visible_request(
    workflow_id: str, partner: SignedIn, web: Web, run: str | None = None
) -> StoredRequest:
    return await find_request(web.store, web.client, partner, workflow_id, run)


VisibleRequest = Annotated[StoredRequest, Depends(_visible_request)]
"""The request in the path. Its status is ``requested`` while only Temporal has it."""


async def _checked_request(request: VisibleRequest) -> StoredRequest:
    if request.status is Status.REQUESTED:
        raise HTTPException(404)
    return request


CheckedRequest = Annotated[StoredRequest, Depends(_checked_request)]
"""The request in the path, or 404 while only Temporal has it."""


async def _operator(http_request: Request, partner: SignedIn, web: Web) -> Partner:
    if not partner.is_operator:
        web.security_log.write(http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403)
    return partner


Operator = Annotated[Partner, Depends(_operator)]
"""An operator. Others get 403."""


async def _other_operator(
    http_request: Request, partner: SignedIn, request: CheckedRequest, web: Web
) -> Partner:
    if actor(partner, request).role is not Role.OPERATOR:
        web.security_log.write(http_request, Event.ACCESS, Outcome.FAILURE)
        raise HTTPException(403)
    return partner


OtherOperator = Annotated[Partner, Depends(_other_operator)]
"""An operator who is not the requester of the request in the path. Others get 403."""
