"""Ask for the partner's company if the identity provider does not name it."""

from fastapi import APIRouter, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.fields import Name
from smart_accounts.contract.messages import Message
from smart_accounts.web.auth.sign_in import ProviderInUse
from smart_accounts.web.dependencies import OpenSession, Page, SessionForm, Web
from smart_accounts.web.http.origins import local_path
from smart_accounts.web.security_log import Event, Outcome

router = APIRouter(prefix="/sign-in/company", include_in_schema=False)


class _CompanyForm(Message):
    company: Name


@router.api_route("", methods=["GET", "HEAD"])
async def ask_company(
    request: Request, _: ProviderInUse, session: OpenSession, page: Page, web: Web
) -> Response:
    path = local_path(request.query_params.get("next", "/"))
    if session.partner.company:
        return RedirectResponse(web.pages.root + path, 303)
    return page("company", next=path, company="", error=None)


@router.post("")
async def save_company(
    request: Request,
    provider: ProviderInUse,
    session: OpenSession,
    form: SessionForm,
    page: Page,
    web: Web,
) -> Response:
    path, company = local_path(form.get("next", "/")), form.get("company", "")
    response = RedirectResponse(web.pages.root + path, 303)
    if session.partner.company:
        return response  # the form was sent twice, or the company is known since a newer sign-in
    try:
        given = _CompanyForm(company=company).company
    except ValidationError as error:
        message = f"Your company {field_errors(error)[0].message}."
        return page("company", 422, next=path, company=company, error=message)
    subject = session.partner.subject
    stored = await web.store.partners.keep_company(provider.issuer.url, subject, given)
    await web.sessions.set_company(session, stored)
    web.security_log.write(request, Event.COMPANY, Outcome.SUCCESS)
    return response
