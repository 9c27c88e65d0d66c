"""Drafts of the request form. Each step stores the form and redirects to a page that shows it.

This lets the browser go back to each page, and keeps what was typed if the session ends.
"""

from datetime import UTC, datetime

from fastapi import Request, Response
from fastapi.responses import RedirectResponse

from smart_accounts.errors import Unavailable
from smart_accounts.store.drafts import Draft
from smart_accounts.store.sessions import Partner
from smart_accounts.web.dependencies import Services
from smart_accounts.web.requests.form import RequestForm, is_form_id, new_form_id

PATHS = {"/requests/new", "/requests/review", "/requests"}
"""The paths to which the request form is sent."""


def form_path(draft_id: str) -> str:
    return f"/requests/new?draft={draft_id}"


def redirect_to_form(web: Services, draft_id: str | None = None) -> Response:
    """Redirect to the form of a draft, or to an empty form with a new id."""
    return RedirectResponse(web.pages.root + form_path(draft_id or new_form_id()), 303)


def form_of(draft: Draft) -> RequestForm:
    return RequestForm.of({**draft.fields, "form_id": draft.id})


async def find(web: Services, partner: Partner, draft_id: str) -> Draft | None:
    """Return the partner's own draft with this id."""
    if not is_form_id(draft_id):
        return None
    return await web.store.drafts.find(partner.identity, draft_id, datetime.now(UTC))


async def save(
    web: Services,
    partner: Partner,
    form: RequestForm,
    *,
    rejection: str | None = None,
    is_late: bool = False,
) -> None:
    draft = Draft(id=form.id, fields=form.values, rejection=rejection, is_late=is_late)
    await web.store.drafts.save(partner, draft, datetime.now(UTC))


async def keep_late_form(web: Services, request: Request) -> str | None:
    """Store a request form that was sent after its session had expired.

    Returns the path that shows it after the next sign-in, or None if it was not stored. It is
    stored only if the cookie and the CSRF token show that the person of that session typed it.
    """
    form: dict[str, str] = request.state.form
    if request.scope["path"] not in PATHS:
        return None
    try:
        session = await web.sessions.find_expired(request)
        if session is None or not session.owns_form(form.get("csrf", "")):
            return None
        kept = RequestForm.of(form)
        await save(web, session.partner, kept, is_late=True)
    except Unavailable:
        return None
    return form_path(kept.id)
