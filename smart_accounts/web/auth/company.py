"""The one question to a partner whose identity provider does not know the company."""

from typing import Any

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import Name
from smart_accounts.contract.messages import Message
from smart_accounts.store.partners import Partners
from smart_accounts.web.auth.session import (
    NotSignedIn,
    Session,
    Sessions,
    check_csrf,
    header_of,
    session_of,
)
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.http.origins import local_path
from smart_accounts.web.rendering import Pages


class _Answer(Message):
    company: Name


class CompanyForm:
    """The routes under ``/sign-in/company``; ``issuer`` is whose partners are asked."""

    def __init__(self, issuer: str, partners: Partners, sessions: Sessions, pages: Pages) -> None:
        self._issuer = issuer
        self._partners = partners
        self._sessions = sessions
        self._page = pages
        self.router = APIRouter(prefix="/sign-in/company", include_in_schema=False)
        self.router.add_api_route("", self.ask, methods=["GET", "HEAD"])
        self.router.add_api_route("", self.keep, methods=["POST"])

    async def ask(self, request: Request) -> Response:
        session = _session(request)
        wanted = local_path(request.query_params.get("next", "/"))
        if session.partner.company:
            return self._redirect(wanted)
        return self._page("company", **header_of(request), next=wanted, company="", error=None)

    async def keep(self, request: Request) -> Response:
        form = await read_form(request)
        session = _session(request)
        check_csrf(request, form)
        wanted, company = local_path(form.get("next", "/")), form.get("company", "")
        response = self._redirect(wanted)
        if session.partner.company:
            return response  # known: sent twice, or named by the provider
        try:
            given = _Answer(company=company).company
        except ValidationError as error:
            wrong = f"Your company {field_errors(error)[0].message}."
            shown: dict[str, Any] = {"next": wanted, "company": company, "error": wrong}
            return self._page("company", 422, **header_of(request), **shown)
        subject = session.partner.subject
        kept = await self._partners.keep_company(self._issuer, subject, given)
        self._sessions.name_company(response, session, kept)
        return response

    def _redirect(self, path: str) -> Response:
        return RedirectResponse(self._page.root + path, 303)


def _session(request: Request) -> Session:
    session = session_of(request)
    if session is None:
        raise NotSignedIn
    return session
