"""The session of the partner at a browser.

The browser has a cookie with a random secret. The store has the session, under the secret's hash.
"""

import hashlib
import secrets
from contextlib import suppress
from datetime import UTC, datetime, timedelta

from fastapi import Request, Response

from smart_accounts.contract.identity import Identity
from smart_accounts.errors import Unavailable
from smart_accounts.sealing import seal, unseal
from smart_accounts.store.sessions import EXPIRED_KEPT, LIFETIME, Partner, Session, StoredSessions
from smart_accounts.text import one_line
from smart_accounts.web.auth.cookies import Cookies

COOKIE = "session"
AUTOMATIC = "automatic"  # the parameter with which a page loads itself again
LAST_USE_INTERVAL = timedelta(minutes=5)  # more often, each page would write to the database
MAX_ADDRESS = 64  # characters
MAX_USER_AGENT = 200  # characters
# A longer ID token is not kept. At the sign-out it is part of a URL in a header, and nginx accepts
# only 4 KB of headers by default.
MAX_ID_TOKEN = 2560  # characters

_PURPOSE = "id-token"


class NotSignedIn(Exception):
    """Nobody is signed in."""


class CompanyMissing(NotSignedIn):
    """The person is signed in, but their company is not known yet."""


class Sessions:
    """Begins, finds and ends sessions. Each method that waits may raise ``Unavailable``."""

    def __init__(self, cookies: Cookies, stored: StoredSessions, issuer: str | None) -> None:
        self._cookies = cookies
        self._stored = stored
        self._issuer = issuer or ""

    async def begin(
        self,
        request: Request,
        response: Response,
        partner: Partner,
        before: Session | None = None,
        id_token: str = "",
    ) -> None:
        """Begin a session at this browser. It ends the session that the browser had before.

        If the session ``before`` is the same person's, the forms in its tabs still work.
        """
        secret, now = secrets.token_urlsafe(), datetime.now(UTC)
        is_same_person = before and before.partner.identity == partner.identity
        client = request.client.host if request.client else ""
        session = Session(
            id=_id(secret),
            partner=partner,
            csrf=before.csrf if before and is_same_person else secrets.token_urlsafe(),
            began_at=now,
            last_used_at=now,
            client_address=one_line(client)[:MAX_ADDRESS],
            user_agent=one_line(request.headers.get("user-agent", ""))[:MAX_USER_AGENT],
        )
        # Without the cookie, nobody who reads the database can read the token.
        sealed = seal(id_token, secret, _PURPOSE) if 0 < len(id_token) <= MAX_ID_TOKEN else None
        replaced = _id(self._cookies.value(request, COOKIE))
        await self._stored.begin(session, replaced, sealed)
        # As long as the store keeps the session, to tell whose a late form is.
        kept = int((LIFETIME + EXPIRED_KEPT).total_seconds())
        self._cookies.set_value(response, COOKIE, secret, kept)

    async def find(self, request: Request) -> Session | None:
        """Return the session of this browser, and note that it is used."""
        secret = self._cookies.value(request, COOKIE)
        session = await self._stored.find(_id(secret), self._issuer) if secret else None
        now = datetime.now(UTC)
        if (
            session
            and now - session.last_used_at >= LAST_USE_INTERVAL
            and not _is_automatic(request)
        ):
            with suppress(Unavailable):  # a database that can only be read still shows pages
                await self._stored.note_use(session.id, now)
        return session

    async def find_expired(self, request: Request) -> Session | None:
        """Return the session of this browser even if it has expired. It must let nobody in."""
        secret = self._cookies.value(request, COOKIE)
        return await self._stored.find_expired(_id(secret), self._issuer) if secret else None

    async def id_token(self, request: Request, session: Session) -> str | None:
        """Return the ID token of the sign-in, unless it is too long."""
        sealed = await self._stored.sealed_id_token(session.id)
        return unseal(sealed, self._cookies.value(request, COOKIE), _PURPOSE) if sealed else None

    async def is_open(self, session: Session) -> bool:
        """Return True until the session ends or expires. This does not count as a use."""
        return await self._stored.find(session.id, self._issuer) is not None

    async def set_company(self, session: Session, company: str) -> None:
        """Continue the session with the company that the partner entered."""
        await self._stored.set_company(session.id, company)

    async def sign_out(self, session: Session) -> None:
        """End the session of this browser."""
        await self._stored.end(session.id)

    async def sign_out_everywhere(self, session: Session) -> None:
        """End all sessions of the person at this browser."""
        await self._stored.end_of_person(session.partner)

    def delete_cookie(self, response: Response) -> None:
        """Remove the cookie of a session that has ended."""
        self._cookies.delete(response, COOKIE)

    async def end(self, session_id: str, by: Partner) -> Identity | None:
        """End one of the person's own sessions, or any session if an operator does it.

        Returns whose it was, or None if there is no such session.
        """
        return await self._stored.end(session_id, None if by.is_operator else by)

    async def end_of_email(self, email: str) -> set[Identity]:
        """End all sessions with this email address, for an operator. Returns whose they were."""
        return set(await self._stored.end_of_email(self._issuer, email))

    async def of_person(self, person: Partner) -> list[Session]:
        return await self._stored.of_person(person)

    async def of_email(self, email: str) -> list[Session]:
        return await self._stored.of_email(self._issuer, email)


def _id(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def _is_automatic(request: Request) -> bool:
    """Return True if an open page loads itself again, or waits for changes, without the person."""
    return AUTOMATIC in request.query_params or listens_for_events(request)


def listens_for_events(request: Request) -> bool:
    """Return True if a script of an open page asks for changes, without the person."""
    return request.headers.get("accept") == "text/event-stream"
