"""An email that comes back, from the mail server to the end of the request."""

from typing import Any

import httpx

from smart_accounts.contract.messages import EmailState, Status

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
    service: Any, fresh: dict[str, Any]
) -> None:
    service.settings["SMART_ACCOUNTS_BOUNCE_DOMAIN"] = "bounces.accounts.example"
    await service.worker()
    address = await service.web()
    started = await service.start(fresh)
    await service.until(started, Status.PENDING, sent=2)
    paths = {mail["X-Smart-Account-Mail"]: mail["Return-Path"] for mail in service.mail.mails}
    assert len(set(paths.values())) == 2
    assert all(path.endswith("@bounces.accounts.example") for path in paths.values())

    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        forged = REPORT.format(to=f"bounce-{'a' * 32}@bounces.accounts.example")
        assert (await http.post("/hooks/bounces", content=forged)).status_code == 204
        other = REPORT.format(to=paths["request-received"])
        assert (await http.post("/hooks/bounces", content=other)).status_code == 204
        now = await service.until(started, Status.PENDING, sent=1)
        assert [mail.state for mail in now.emails] == [EmailState.SENT, EmailState.BOUNCED]

        report = REPORT.format(to=paths["activation"])
        assert (await http.post("/hooks/bounces", content=report)).status_code == 204
    ended = await service.until(started, Status.UNDELIVERABLE)
    assert ended.reason == "550 5.1.1 no such user here"
    await service.mail.wait_for("undeliverable", fresh["requester"]["email"])


async def test_without_a_bounce_domain_emails_return_to_their_sender(
    service: Any, fresh: dict[str, Any]
) -> None:
    await service.worker()
    address = await service.web()
    await service.start(fresh)
    mail = await service.mail.wait_for("activation")
    assert mail["Return-Path"] == "no-reply@accounts.example"
    async with httpx.AsyncClient(base_url=address, timeout=30) as http:
        assert (await http.post("/hooks/bounces", content="")).status_code == 404
