"""A bounced email, from the report of the mail server to the end of the request."""

from typing import Any

import httpx

from smart_accounts.contract.messages import EmailState, Status
from tests.support.service import Service

REPORT = """\
From: MAILER-DAEMON@relay.example
To: {to}
Subject: Undelivered Email Returned to Sender
MIME-Version: 1.0
Content-Type: multipart/report; report-type=delivery-status; boundary="b"

--b
Content-Type: text/plain

I could not deliver your email.

--b
Content-Type: message/delivery-status

Reporting-MTA: dns; relay.example

Final-Recipient: rfc822; ada@acme.example
Action: failed
Status: 5.1.1
Diagnostic-Code: smtp; 550 5.1.1 no such user here

--b--
"""


async def test_bounced_activation_email_ends_the_request(
    service: Service, new_request: dict[str, Any]
) -> None:
    service.settings["SMART_ACCOUNTS_BOUNCE_DOMAIN"] = "bounces.accounts.example"
    await service.start_worker()
    address = await service.start_web()
    started = await service.start(new_request)
    await service.wait_for(started, Status.PENDING, sent=2)
    paths = {mail["X-Smart-Account-Mail"]: mail["Return-Path"] for mail in service.mail.emails}
    assert len(set(paths.values())) == 2
    assert all(path.endswith("@bounces.accounts.example") for path in paths.values())

    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        forged = REPORT.format(to=f"bounce-{'a' * 32}@bounces.accounts.example")
        assert (await http.post("/hooks/bounces", content=forged)).status_code == 204
        other = REPORT.format(to=paths["request-received"])
        assert (await http.post("/hooks/bounces", content=other)).status_code == 204
        now = await service.wait_for(started, Status.PENDING, sent=1)
        assert [mail.state for mail in now.emails] == [EmailState.SENT, EmailState.BOUNCED]

        report = REPORT.format(to=paths["activation"])
        assert (await http.post("/hooks/bounces", content=report)).status_code == 204
    ended = await service.wait_for(started, Status.UNDELIVERABLE)
    assert ended.reason == "550 5.1.1 no such user here"
    await service.mail.wait_for("undeliverable", new_request["requester"]["email"])


async def test_without_a_bounce_domain_the_sender_is_the_return_path(
    service: Service, new_request: dict[str, Any]
) -> None:
    await service.start_worker()
    address = await service.start_web()
    await service.start(new_request)
    mail = await service.mail.wait_for("activation")
    assert mail["Return-Path"] == "no-reply@accounts.example"
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        assert (await http.post("/hooks/bounces", content="")).status_code == 404
