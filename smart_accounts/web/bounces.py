"""Where the operator's mail server hands over the emails that come back."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request

from smart_accounts.contract.messages import Bounce, EmailState
from smart_accounts.contract.steps import EmailOutcome
from smart_accounts.errors import NotFound
from smart_accounts.mail.bounces import read_bounce
from smart_accounts.store.emails import EmailLedger
from smart_accounts.temporal.client import RequestClient
from smart_accounts.web.http.forms import read_body

MAX_REPORT = 256 * 1024  # bytes; some servers return the whole email with the report

_log = logging.getLogger(__name__)


def bounce_hook(emails: EmailLedger, client: RequestClient, domain: str | None) -> APIRouter:
    """The route ``/hooks/bounces``, for emails to return paths at ``domain``.

    The body is the email as it came. 204 means that it needs no second delivery: it was
    understood, or it is no report on an email of ours, which looks the same from outside.
    """
    router = APIRouter(include_in_schema=False)

    @router.post("/hooks/bounces", status_code=204)
    async def take(request: Request) -> None:
        if domain is None:
            raise HTTPException(404)
        # In a thread, since a stranger can make it last a second.
        report = await asyncio.to_thread(read_bounce, await read_body(request, MAX_REPORT), domain)
        if report is None or not (returned := await emails.find_returned(report.token)):
            return
        # Temporal first: an email is marked once its request knows.
        with suppress(NotFound):  # the request is closed
            await client.report_bounce(
                returned.workflow_id,
                run_id=returned.request_id,
                bounce=Bounce(email=returned.email, answer=report.answer),
            )
        outcome = EmailOutcome(state=EmailState.BOUNCED, at=datetime.now(UTC), answer=report.answer)
        await emails.mark_bounced(returned, outcome)
        _log.warning("email %s of request %s came back", returned.email.kind, returned.request_id)

    return router
