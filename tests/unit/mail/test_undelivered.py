"""Emails to the requester about emails that did not arrive."""

import re
from dataclasses import replace
from datetime import UTC, datetime

from smart_accounts.contract.messages import EmailKind, EmailState, EmailStatus, Status
from smart_accounts.text import utc
from tests.support.emails import (
    EXPIRING,
    REQUEST,
    UNDELIVERABLE,
    UNDELIVERED,
    both_parts,
    compose,
)


def test_requester_sees_which_emails_were_not_delivered() -> None:
    undelivered = [
        EmailStatus(
            kind=EmailKind.ACTIVATION,
            recipient="old@acme.example",
            state=EmailState.FAILED,
            at=datetime(2026, 8, 27, 14, 6, tzinfo=UTC),
        ),
        UNDELIVERED,
    ]
    for part in both_parts(compose(EXPIRING, undelivered=undelivered)):
        assert "Some emails to the customer were not delivered" in part
        assert (
            f"To be accepted by {utc(REQUEST.deadline)} "
            "Activation email not delivered old@acme.example 2026-08-27 14:06 UTC "
            "Reminder not delivered ada@acme.example 2026-09-26 14:05 UTC "
            "The mail server said 552 5.2.2 Mailbox full"
        ) in part
    for part in both_parts(compose(EXPIRING)):
        assert not re.search(r"delivered|mail server", part)


def test_requester_is_told_if_the_address_takes_no_emails() -> None:
    reason = "550 5.1.1 <ada@acme.example>: no such user"
    request = replace(REQUEST, status=Status.UNDELIVERABLE, reason=reason)
    for part in both_parts(compose(UNDELIVERABLE, request)):
        assert "request a new Smart Account with another address" in part
        assert "does not mean" not in part
