"""The customer's pages: look at a request, accept it, decline it.

The token in the path is all that is needed. There is no session. GET and HEAD change nothing.
They return 200 while the request is open, answered or active, 410 if the link can no longer be
used, and 404 if the link does not exist. POST returns 303 once Temporal has the answer, even if it
had the same answer before.
"""

import logging
from collections.abc import Awaitable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import RedirectResponse
from pydantic import ValidationError

from smart_accounts.contract.field_errors import field_errors
from smart_accounts.contract.messages import Decline
from smart_accounts.errors import NotFound, Unavailable
from smart_accounts.store.audit import Action
from smart_accounts.store.records import ActivationLink
from smart_accounts.tokens import token_hash
from smart_accounts.web.dependencies import Audit, Services, Web
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.http.origins import is_cross_origin
from smart_accounts.web.rendering import Pages
from smart_accounts.web.security_log import Event, Outcome

REFRESH_SECONDS = 2

_GLUED = "/.>"
"""What a mail program may add to a link from the text around it. No token has these characters."""

AGREEMENT = (
    "I am authorised to act for my company, and I accept the Smart Account {account_name} for"
    " {account_domain}."
)
"""The text next to the check box, which the audit trail keeps as what the customer agreed to."""

_GONE = {"superseded", "lapsed", "withdrawn", "undeliverable", "rejected", "expired", "closed"}

_log = logging.getLogger(__name__)

router = APIRouter(prefix="/activate/{token}", include_in_schema=False)


@dataclass(frozen=True)
class OpenedLink:
    """A link that somebody opened, and the pages for it."""

    token: str
    link: ActivationLink
    pages: Pages
    is_form: bool
    """True if a form was sent through the link."""

    def page(
        self,
        *,
        status: int | None = None,
        errors: dict[str, str] | None = None,
        form: dict[str, str] | None = None,
    ) -> Response:
        """Return the page for the state of the link. Each state has a template."""
        now = datetime.now(UTC)
        state, request = self.link.state(now), self.link.request
        return self.pages(
            state,
            status or (410 if state in _GONE else 200),
            self.refresh if state == "received" else None,
            token=self.token,
            request=request,
            answer=request.answer,
            agreement=AGREEMENT,
            remaining=request.deadline - now,
            errors=errors or {},
            typed=form or {},
            responds_to_form=self.is_form,
        )

    @property
    def agreed_text(self) -> str:
        """The text that the customer agrees to by ticking the box."""
        request = self.link.request
        return AGREEMENT.format(
            account_name=request.account_name, account_domain=request.account_domain
        )

    def response_unless_open(self, answer: str) -> Response | None:
        """Return the response if this answer must not be sent to the workflow, otherwise None."""
        state, request = self.link.state(datetime.now(UTC)), self.link.request
        if state == "open":
            return None
        if state in _GONE:
            return self.page()
        if request.answer == answer:
            return self.redirect()
        return self.pages("already-answered", 409, token=self.token, request=request, answer=answer)

    def redirect(self) -> Response:
        return RedirectResponse(self._path, 303)

    @property
    def refresh(self) -> dict[str, str]:
        return {"Refresh": f"{REFRESH_SECONDS}; url={self._path}"}

    @property
    def _path(self) -> str:
        return f"{self.pages.root}/activate/{self.token}"


async def _open_link(token: str, request: Request, web: Web) -> OpenedLink:
    """Return the link with this token, without what a mail program glued to it.

    Every token costs the same work, so that the response time does not show which links exist.

    Raises:
        HTTPException: 404, the link was not issued or is forged.
    """
    token = token.rstrip(_GLUED)
    link = await web.store.links.find(token_hash(token))
    request_id, ordinal = (link.request.id, link.ordinal) if link else ("", 0)
    if not web.tokens.is_genuine(token, request_id, ordinal) or link is None:
        raise HTTPException(404)
    if link.request.answer or link.request.status.is_final:
        web.answers.pop((request_id, ordinal), None)
    elif answer := web.answers.get((request_id, ordinal)):
        noted = replace(link.request, signalled=answer, signalled_link=ordinal)
        link = replace(link, request=noted)
    return OpenedLink(token, link, web.pages, is_form=request.method == "POST")


async def _answer_form(request: Request, web: Web) -> dict[str, str]:
    if is_cross_origin(request.headers, web.settings.base_url):
        web.security_log.write(request, Event.CROSS_SITE, Outcome.FAILURE, "origin")
        raise HTTPException(403)
    return await read_form(request)


Opened = Annotated[OpenedLink, Depends(_open_link)]
AnswerForm = Annotated[dict[str, str], Depends(_answer_form)]


@router.api_route("", methods=["GET", "HEAD"])
@router.api_route("/", methods=["GET", "HEAD"])
@router.api_route("/decline", methods=["GET", "HEAD"])  # reloading the page after a form
async def show(opened: Opened) -> Response:
    return opened.page()


@router.post("")
@router.post("/")
async def accept(
    http_request: Request, form: AnswerForm, opened: Opened, web: Web, audit: Audit
) -> Response:
    if response := opened.response_unless_open("accepted"):
        return response
    if form.get("agree") != "yes":
        message = "Tick this box to accept the account."
        return opened.page(status=422, errors={"agree": message})
    # Before the signal, so that no acceptance counts without its evidence.
    await audit.record_answer(Action.ACCEPT, opened.link, opened.agreed_text)
    request = opened.link.request
    signal = web.client.accept(
        request.workflow_id,
        run_id=request.id,
        link=opened.link.ordinal,
        accepted_by=request.customer_email,
    )
    return await _send(http_request, web, opened, "accepted", signal)


@router.post("/decline")
async def decline(
    http_request: Request, form: AnswerForm, opened: Opened, web: Web, audit: Audit
) -> Response:
    if response := opened.response_unless_open("declined"):
        return response
    try:
        given = Decline(reason=form.get("reason", ""), report=form.get("report") == "yes")
    except ValidationError as error:
        message = f"The reason {field_errors(error)[0].message}."
        return opened.page(status=422, errors={"reason": message}, form=form)
    await audit.record_answer(Action.DECLINE, opened.link)
    request = opened.link.request
    signal = web.client.decline(
        request.workflow_id,
        run_id=request.id,
        link=opened.link.ordinal,
        reason=given.reason,
        report=given.report,
    )
    return await _send(http_request, web, opened, "declined", signal)


async def _send(
    http_request: Request, web: Services, opened: OpenedLink, answer: str, signal: Awaitable[None]
) -> Response:
    request = opened.link.request
    event = Event(f"request.{answer}")
    try:
        with web.security_log.outcome_of(http_request, event, request.workflow_id, request.id):
            await signal
    except NotFound:
        # The run has ended. Somebody decided a moment ago, or an operator terminated it.
        newest = await _open_link(opened.token, http_request, web)
        return newest.response_unless_open(answer) or web.pages("ended", 410, responds_to_form=True)
    try:
        await web.store.requests.note_signalled(request.id, opened.link.ordinal, answer)
    except Unavailable:
        # Temporal has the answer, so it counts. This process remembers the answer, because without
        # it the page would show the form again. Other processes do show the form, so the response
        # is not a redirect.
        web.answers[request.id, opened.link.ordinal] = answer
        _log.warning(
            "the answer to request %s was received, but not noted in the store",
            request.id,
            extra={"request_id": request.id},
        )
        return web.pages(
            "received", 200, opened.refresh, request=request, answer=answer, responds_to_form=True
        )
    return opened.redirect()
