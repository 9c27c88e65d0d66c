"""Sessions of signed-in partners."""

import hmac
import secrets
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime, timedelta

from fastapi import Request, Response

from smart_accounts.contract.messages import Actor, Requester, Role
from smart_accounts.web.auth.cookies import SignedCookies

LIFETIME = timedelta(hours=8)  # from the sign-in; using the pages does not extend it
COOKIE = "session"


@dataclass(frozen=True, kw_only=True)
class Partner:
    """A signed-in person. The fields follow the rules of ``Requester``.

    ``issuer`` and ``subject`` together identify the person: the identity provider and its id of
    the person. The other fields may change. ``company`` is empty if the provider does not name it
    and the person has not entered it yet.
    """

    issuer: str
    subject: str
    email: str
    name: str
    company: str
    is_operator: bool = False

    @property
    def requester(self) -> Requester:
        return Requester(email=self.email, name=self.name, company=self.company)

    @property
    def actor(self) -> Actor:
        role = Role.OPERATOR if self.is_operator else Role.REQUESTER
        return Actor(role=role, subject=self.subject)


class NotSignedIn(Exception):
    """Nobody is signed in, or the company is not known yet."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """One session. Each form contains ``csrf``, which other sites cannot know."""

    partner: Partner
    csrf: str
    until: datetime

    def owns_form(self, csrf: str) -> bool:
        """Return True if a form with this token comes from a page of this session."""
        return hmac.compare_digest(self.csrf.encode(), csrf.encode())


class Sessions:
    """Keeps each session only in its cookie. The server stores nothing."""

    def __init__(self, cookies: SignedCookies) -> None:
        self._cookies = cookies

    def begin(self, response: Response, partner: Partner) -> None:
        """Start a new session. It replaces the session that the browser had before."""
        session = Session(
            partner=partner, csrf=secrets.token_urlsafe(), until=datetime.now(UTC) + LIFETIME
        )
        self._save(response, session)

    def set_company(self, response: Response, session: Session, company: str) -> None:
        """Continue the session with the company that the partner entered."""
        self._save(response, replace(session, partner=replace(session.partner, company=company)))

    def end(self, response: Response) -> None:
        self._cookies.delete(response, COOKIE)

    def find(self, request: Request) -> Session | None:
        content = self._cookies.read(request, COOKIE)
        if content is None:
            return None
        try:
            partner = Partner(**content["partner"])
        except TypeError:  # a valid cookie from a release with other fields
            return None
        until = datetime.fromtimestamp(content["until"], UTC)
        return Session(partner=partner, csrf=content["csrf"], until=until)

    def _save(self, response: Response, session: Session) -> None:
        content = {"partner": asdict(session.partner), "csrf": session.csrf}
        self._cookies.set(response, COOKIE, content, session.until)
