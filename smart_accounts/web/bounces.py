"""Where the operator's mail server delivers emails that came back."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request

from smart_accounts.contract.messages import Bounce, EmailState
from smart_accounts.contract.steps import EmailOutcome
from smart_accounts.errors import NotFound
from smart_accounts.mail.bounces import read_bounce
from smart_accounts.web.dependencies import Web
from smart_accounts.web.http.forms import read_body

MAX_REPORT = 256 * 1024  # bytes; some servers return the whole email with the report

_log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


@router.post("/hooks/bounces", status_code=204)
async def take_bounce(request: Request, web: Web) -> None:
    """Take an email that was sent to a return path, as it came.

    204 means that it need not be delivered again: either it was understood, or it is not a
    report about one of our emails. From outside both look the same.
    """
    domain = web.settings.bounce_domain
    if domain is None:
        raise HTTPException(404)
    body = await read_body(request, MAX_REPORT)
    # In a thread, because a hostile report can take a second to parse.
    report = await asyncio.to_thread(read_bounce, body, domain)
    if report is None or not (returned := await web.store.emails.find_returned(report.token)):
        return
    # Temporal comes first: the ledger marks an email only once its request knows.
    with suppress(NotFound):  # the request has ended
        await web.client.report_bounce(
            returned.workflow_id,
            run_id=returned.request_id,
            bounce=Bounce(email=returned.email, answer=report.answer),
        )
    outcome = EmailOutcome(state=EmailState.BOUNCED, at=datetime.now(UTC), answer=report.answer)
    await web.store.emails.mark_bounced(returned, outcome)
    _log.warning("email %s of request %s came back", returned.email.kind, returned.request_id)
