"""Who is signed in, for every page that partners use.

A page asks for ``Annotated[Partner, Depends(signed_in)]``, hands ``**header_of(request)`` to its
template, puts ``<input type="hidden" name="csrf" value="{{ csrf }}">`` into each form, and calls
``check_csrf`` before it acts on one.
"""

import hmac
import secrets
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

from fastapi import HTTPException, Request, Response

from smart_accounts.contract.messages import Requester
from smart_accounts.web.auth.cookies import SignedCookies
from smart_accounts.web.http.origins import comes_from_elsewhere

SESSION = timedelta(hours=8)  # from the sign-in, whatever is done meanwhile
COOKIE = "session"


@dataclass(frozen=True, kw_only=True)
class Partner:
    """A signed-in person; the fields keep the rules of ``Requester``.

    ``subject`` is the identity provider's name for the person. ``company`` is empty only until
    the person was asked for it; ``signed_in`` gives out nobody before that.
    """

    subject: str
    email: str
    name: str
    company: str
    is_operator: bool = False

    @property
    def requester(self) -> Requester:
        return Requester(email=self.email, name=self.name, company=self.company)


class NotSignedIn(Exception):
    """Nobody is signed in: answered by the way to ``/sign-in``, or by 401 where a form was sent."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """``csrf`` stands in the session's forms: another site can send a form, but not know it."""

    partner: Partner
    csrf: str
    until: datetime


class Sessions:
    """A session is its cookie: there is nothing else to look up, to keep or to lose."""

    def __init__(self, cookies: SignedCookies, public_url: str) -> None:
        self._cookies = cookies
        self.public_url = public_url

    def begin(self, response: Response, partner: Partner) -> None:
        """A new session, whatever cookie the browser had before."""
        session = Session(
            partner=partner, csrf=secrets.token_urlsafe(), until=datetime.now(UTC) + SESSION
        )
        self._give(response, session)

    def name_company(self, response: Response, session: Session, company: str) -> None:
        """The same session, ending when it would have, of a partner whose company is known."""
        self._give(response, replace(session, partner=replace(session.partner, company=company)))

    def end(self, response: Response) -> None:
        self._cookies.take(response, COOKIE)

    def of(self, request: Request) -> Session | None:
        content = self._cookies.read(request, COOKIE)
        if content is None:
            return None
        try:
            partner = Partner(**content["partner"])
        except TypeError:  # it is genuine, but of a release with other fields
            return None
        until = datetime.fromtimestamp(content["until"], UTC)
        return Session(partner=partner, csrf=content["csrf"], until=until)

    def _give(self, response: Response, session: Session) -> None:
        content = {"partner": asdict(session.partner), "csrf": session.csrf}
        self._cookies.give(response, COOKIE, content, session.until)


def _sessions(request: Request) -> Sessions:
    sessions: Sessions = request.app.state.sessions
    return sessions


def session_of(request: Request) -> Session | None:
    """The session, also of somebody whose company is not known yet."""
    return _sessions(request).of(request)


def signed_in(request: Request) -> Partner:
    """Who is signed in: a dependency.

    Raises:
        NotSignedIn: nobody is.
    """
    session = session_of(request)
    if session is None or not session.partner.company:
        raise NotSignedIn
    return session.partner


def csrf_token(request: Request) -> str:
    """What a form must hold in its field ``csrf``; empty if nobody is signed in."""
    session = session_of(request)
    return session.csrf if session else ""


def header_of(request: Request) -> dict[str, Any]:
    """``partner`` and ``csrf`` for a template: with them the layout shows who is signed in."""
    session = session_of(request)
    return {"partner": session and session.partner, "csrf": session.csrf if session else ""}


def check_csrf(request: Request, form: Mapping[str, str]) -> None:
    """See that the form was sent from a page of this session.

    Raises:
        HTTPException: 403, it was not.
    """
    token, sent = csrf_token(request), form.get("csrf", "")
    genuine = bool(token) and hmac.compare_digest(token.encode(), sent.encode())
    if not genuine or comes_from_elsewhere(request.headers, _sessions(request).public_url):
        raise HTTPException(403)
