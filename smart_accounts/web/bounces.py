"""The endpoint to which the operator's mail server delivers returned emails."""

import asyncio
import logging
from contextlib import suppress
from datetime import UTC, datetime

from fastapi import APIRouter, HTTPException, Request

from smart_accounts.contract.messages import EmailState
from smart_accounts.contract.steps import Bounce, EmailOutcome
from smart_accounts.errors import NotFound
from smart_accounts.mail.bounces import read_bounce
from smart_accounts.mail.refusals import codes_of
from smart_accounts.store.records import ReturnedEmail
from smart_accounts.temporal.metrics import EMAILS, RETURNED, UNREADABLE, Attempt
from smart_accounts.web.dependencies import Web
from smart_accounts.web.http.forms import read_body

MAX_REPORT = 256 * 1024  # bytes; some servers return the whole email with the report

_log = logging.getLogger(__name__)

router = APIRouter(include_in_schema=False)


@router.post("/hooks/bounces", status_code=204)
async def receive_bounce(request: Request, web: Web) -> None:
    """Receive a raw email that was sent to a return path.

    204 means that the mail server must not deliver it again. The response does not show whether
    the email was a report about one of ours.
    """
    domain = web.settings.bounce_domain
    if domain is None:
        raise HTTPException(404)
    body = await read_body(request, MAX_REPORT)
    # In a thread, because the worst report takes a tenth of a second to read.
    report = await asyncio.to_thread(read_bounce, body, domain)
    if report is None or not (returned := await web.store.emails.find_returned(report.token)):
        return
    name = f"email {returned.email.kind} of request {returned.request_id}"
    log = logging.LoggerAdapter(_log, {"request_id": returned.request_id})
    if report.reply is None:
        UNREADABLE.add(web.meter)
        log.error("could not read what was sent to the return path of the %s", name)
    elif report.recipient_failed:
        await _record_bounce(web, returned, report.reply)
        EMAILS.add(web.meter, kind=returned.email.kind, outcome=Attempt.BOUNCED)
        log.warning("%s bounced", name)
    else:
        await web.store.emails.mark_returned(returned, report.reply)
        RETURNED.add(web.meter)
        log.error(
            "%s was returned because of us (%s): send it again once the cause is fixed",
            name,
            codes_of(report.reply) or "no code",
        )


async def _record_bounce(web: Web, returned: ReturnedEmail, reply: str) -> None:
    # Signal Temporal first. If the signal fails, the mail server delivers the report again, and
    # then the ledger must still find the email.
    with suppress(NotFound):  # the request has ended
        await web.client.report_bounce(
            returned.workflow_id,
            run_id=returned.request_id,
            bounce=Bounce(email=returned.email, answer=reply),
        )
    outcome = EmailOutcome(state=EmailState.BOUNCED, at=datetime.now(UTC), answer=reply)
    await web.store.emails.mark_bounced(returned, outcome)
