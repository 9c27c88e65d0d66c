"""The security log: one line of JSON for each event that matters to the security of the service.

``docs/security.md`` lists the events. Each line is one flat object, so ``json.dumps`` and the
standard library's logging are enough. ``python -m smart_accounts.web`` writes the lines to standard
output.
"""

import hashlib
import hmac
import json
import logging
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum

from starlette.requests import HTTPConnection

from smart_accounts.contract.actions import Role
from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.names import WORKFLOW_ID
from smart_accounts.errors import Rejected
from smart_accounts.store.sessions import Partner
from smart_accounts.web.auth.login_attempt import SignInFailed
from smart_accounts.web.http.client_address import client_address

_log = logging.getLogger("smart_accounts.security")


class Event(StrEnum):
    """What happened. The first part of each name is a kind of event of ASVS 5.0, V16.3."""

    SIGN_IN = "authentication.sign-in"
    SIGN_OUT = "authentication.sign-out"
    COMPANY = "authentication.company"
    SESSION = "authentication.session"
    TOKEN = "authentication.token"  # noqa: S105 - the name of an event
    LINK = "authentication.link"
    SCOPE = "authorization.scope"
    ACCESS = "authorization.access"
    CROSS_SITE = "bypass.cross-site"
    RATE_LIMIT = "bypass.rate-limit"
    REQUEST_LIMIT = "bypass.request-limit"
    START = "request.start"
    RESEND = "request.resend"
    REPLACE_APPROVER = "request.replace-approver"
    WITHDRAW = "request.withdraw"
    APPROVE = "request.approve"
    REJECT = "request.reject"
    CLOSE = "request.close"
    ACCEPTED = "request.accepted"
    DECLINED = "request.declined"
    WEBHOOK_REGISTER = "webhook.register"
    WEBHOOK_CHANGE = "webhook.change"
    WEBHOOK_ROTATE_SECRET = "webhook.rotate-secret"  # noqa: S105 - the name of an event
    WEBHOOK_PAUSE = "webhook.pause"
    WEBHOOK_RESUME = "webhook.resume"
    WEBHOOK_DELETE = "webhook.delete"
    WEBHOOK_PING = "webhook.ping"
    WEBHOOK_RESEND = "webhook.resend"
    UNEXPECTED = "error.unexpected"


class Outcome(StrEnum):
    SUCCESS = "success"
    FAILURE = "failure"
    UNKNOWN = "unknown"


class SecurityLog:
    """Writes the events. Persons appear only as a keyed hash, which the newest key makes."""

    def __init__(self, keys: Sequence[str]) -> None:
        self._key = hmac.digest(keys[0].encode(), b"security-log", hashlib.sha256)

    def write(
        self,
        request: HTTPConnection,
        event: Event,
        outcome: Outcome,
        reason: str | None = None,
        workflow_id: str | None = None,
        request_id: str | None = None,
        signed_out_person: Identity | None = None,
        endpoint_id: str | None = None,
    ) -> None:
        """Write one line about a call.

        The person is ``request.state.partner``, if somebody is signed in. The workflow id in the
        path is used unless another one is given. ``reason``, ``request_id`` and ``endpoint_id``
        must come from this service, never from outside.
        """
        partner: Partner | None = getattr(request.state, "partner", None)
        address = client_address(request.scope)
        about = workflow_id or request.path_params.get("workflow_id", "")
        line = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "event": event,
            "outcome": outcome,
            "reason": reason,
            "address": str(address) if address else None,
            "person": self.person(partner.identity) if partner else None,
            "role": _role(partner),
            # The path may contain anything, for example an email address.
            "workflow_id": about if WORKFLOW_ID.fullmatch(about) else None,
            "request_id": request_id,
            "signed_out_person": self.person(signed_out_person) if signed_out_person else None,
            "endpoint_id": endpoint_id,
        }
        _log.info(json.dumps(line))

    @contextmanager
    def outcome_of(
        self,
        request: HTTPConnection,
        event: Event,
        workflow_id: str | None = None,
        request_id: str | None = None,
        endpoint_id: str | None = None,
    ) -> Iterator[None]:
        """Write a line when the block ends: success, failure, or unknown after an outage."""
        outcome, reason = Outcome.UNKNOWN, None
        try:
            yield
            outcome = Outcome.SUCCESS
        except (Rejected, BadInput) as error:
            outcome = Outcome.FAILURE
            if isinstance(error, Rejected) and error.retry_at:
                event = Event.REQUEST_LIMIT
            reason = error.problem if isinstance(error, SignInFailed) else None
            raise
        finally:
            self.write(
                request,
                event,
                outcome,
                reason,
                workflow_id,
                request_id,
                endpoint_id=endpoint_id,
            )

    def person(self, identity: Identity) -> str:
        """Return the hash of a person, which is the same in each line about the person."""
        content = json.dumps([identity.issuer, identity.subject]).encode()
        return hmac.digest(self._key, content, hashlib.sha256).hex()


def _role(partner: Partner | None) -> Role | None:
    if partner is None:
        return None
    return Role.OPERATOR if partner.is_operator else Role.REQUESTER


def write_to_standard_output() -> None:
    """Write the lines to standard output, and nothing else there."""
    _log.addHandler(logging.StreamHandler(sys.stdout))
    _log.setLevel(logging.INFO)
    _log.propagate = False
