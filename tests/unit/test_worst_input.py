"""The worst values of the permitted size cost little CPU time, at every entry."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pydantic import TypeAdapter
from temporalio.api.common.v1 import Payload

from smart_accounts.cli.csv_import import read_rows
from smart_accounts.contract import fields
from smart_accounts.contract.actions import NewApprover, Resend, Review, Withdrawal
from smart_accounts.contract.field_errors import MAX_ERRORS, FieldError
from smart_accounts.contract.messages import Acceptance, Decline, Requester, SmartAccountRequest
from smart_accounts.contract.steps import Bounce, SendEmails
from smart_accounts.mail.bounces import read_bounce
from smart_accounts.settings import Settings
from smart_accounts.temporal.guard import MAX_PAYLOAD, TolerantPayloadConverter, Unreadable
from smart_accounts.tokens import return_path
from smart_accounts.web.auth.claims import partner_from
from smart_accounts.web.bounces import MAX_REPORT
from smart_accounts.web.dependencies import MAX_SESSION_FORM
from smart_accounts.web.requests.form import LABELS, RequestForm
from tests.support.keys import KEY
from tests.support.worst_input import (
    CALL_SECONDS,
    PATTERNS,
    VALIDATOR_SECONDS,
    cpu_seconds,
    filled,
)

REQUESTER = Requester(email="pat@partner.example", name="Pat Lee", company="Partner Ltd")

TYPES: list[Any] = [
    fields.Name,
    fields.AccountName,
    fields.Note,
    fields.Reason,
    fields.EmailAddress,
    fields.NamedEmailAddress,
    fields.AccountDomain,
    fields.AcceptanceWindow,
]


@pytest.mark.parametrize("pattern", PATTERNS)
def test_validators(pattern: str) -> None:
    for type_ in TYPES:
        adapter: TypeAdapter[Any] = TypeAdapter(type_)
        # Just below the length at which a value is rejected at once, and far above.
        for size in (120, 254, 480, 1000, 1024, 4096, 100_000, 1_000_000):
            value = filled(PATTERNS[pattern], size)
            taken = cpu_seconds(adapter.validate_python, value, enough=VALIDATOR_SECONDS)
            assert taken < VALIDATOR_SECONDS, (type_, size)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_form(pattern: str) -> None:
    for name in LABELS:
        size = MAX_SESSION_FORM // max(1, len(PATTERNS[pattern].encode()) // len(PATTERNS[pattern]))
        form = RequestForm.of({name: filled(PATTERNS[pattern], size)})
        assert cpu_seconds(form.to_request, REQUESTER, enough=CALL_SECONDS) < CALL_SECONDS, name


MESSAGES: list[tuple[type, tuple[str, ...]]] = [
    (SmartAccountRequest, tuple(SmartAccountRequest.model_fields)),
    (Acceptance, ("accepted_by",)),
    (Decline, ("reason",)),
    (NewApprover, ("customer_email",)),
    (Withdrawal, ("reason", "by")),
    (Resend, ("by",)),
    (Review, ("decision", "reason", "by")),
    (SendEmails, ("closing",)),
    (Bounce, ("answer",)),
]


def with_text(name: str, text: str) -> Any:
    """Return a value of the field with this text as deep inside as possible."""
    match name:
        case "by":
            return {"role": "operator", "subject": text}
        case "closing":
            return {"account_domain": text, "reason": text, "by": with_text("by", text)}
        case _:
            return text


@pytest.mark.parametrize("pattern", PATTERNS)
def test_temporal_payloads(pattern: str) -> None:
    converter = TolerantPayloadConverter()
    for size in (8000, 60_000, MAX_PAYLOAD // 4, 2_000_000):
        text = json.dumps(filled(PATTERNS[pattern], size), ensure_ascii=False)
        for model, name in [(model, name) for model, names in MESSAGES for name in names]:
            data = json.dumps({name: with_text(name, "TEXT")}).replace('"TEXT"', text).encode()
            payload = Payload(metadata={"encoding": b"json/plain"}, data=data)
            taken = cpu_seconds(converter.from_payloads, [payload], [model], enough=CALL_SECONDS)
            assert taken < CALL_SECONDS, (model, name, size)


@pytest.mark.parametrize(
    "data",
    [
        json.dumps({f"field {number}": 1 for number in range(14_000)}),
        json.dumps({"user_emails": ["x"] * 50_000}),
        json.dumps({"reminders": ["x"] * 50_000}),
        json.dumps({"requester": {f"field {number}": 1 for number in range(14_000)}}),
        "[" * 100_000,
        '{"a":' * 40_000,
    ],
    ids=lambda data: data[:20],
)
def test_structures_in_temporal_payloads(data: str) -> None:
    payload = Payload(metadata={"encoding": b"json/plain"}, data=data.encode())
    converter = TolerantPayloadConverter()
    [found] = converter.from_payloads([payload], [SmartAccountRequest])
    assert isinstance(found, Unreadable)
    assert len(found.errors) <= MAX_ERRORS
    taken = cpu_seconds(
        converter.from_payloads, [payload], [SmartAccountRequest], enough=CALL_SECONDS
    )
    assert taken < CALL_SECONDS


@pytest.mark.parametrize("pattern", PATTERNS)
def test_csv_file(pattern: str, tmp_path: Any) -> None:
    header = "account_name,customer_email,requester_email,requester_name,requester_company,"
    file = tmp_path / "requests.csv"
    cell = filled(PATTERNS[pattern].replace('"', "'"), 100_000)
    file.write_text(f'{header}user_emails,note_to_customer\n"{cell}","{cell}",a,b,c,"{cell}",\n')
    assert cpu_seconds(read_rows, file, enough=CALL_SECONDS) < CALL_SECONDS


@pytest.mark.parametrize("pattern", PATTERNS)
def test_sign_in_claims(pattern: str) -> None:
    settings = Settings(
        _env_file=None,
        public_url="https://accounts.example",
        secret_keys=KEY,
        smtp_hostname="mail.example",
        mail_from="accounts@service.example",
    )
    good: dict[str, Any] = {"iss": "https://login.example", "sub": "pat", "name": "Pat"}
    good |= {"email": "pat@partner.example", "email_verified": True}
    for name in ("sub", "email", "name", "company"):
        claims = good | {name: filled(PATTERNS[pattern], 100_000)}
        assert cpu_seconds(partner_from, claims, settings, enough=CALL_SECONDS) < CALL_SECONDS, name


DOMAIN = "bounces.service.example"
RECIPIENT = f"To: {return_path('q7w2abcdefghijklmnopqrstuvwxyz56', DOMAIN)}\n"
REPORT = f"{RECIPIENT}Content-Type: multipart/report; report-type=delivery-status; boundary=b\n\n"
STATUS = f"{REPORT}--b\n\n--b\nContent-Type: message/delivery-status\n\n"
WRAPPED = (
    f"{RECIPIENT}Content-Type: multipart/mixed; boundary=o\n\n--o\n{REPORT.removeprefix(RECIPIENT)}"
)
REPORTS: dict[str, Callable[[str], str]] = {
    "a long parameter": lambda fill: f'{RECIPIENT}Content-Type: multipart/report; x="{fill}"\n\n',
    "a long address": lambda fill: f"To: {fill}\n\n",
    "long addresses": lambda fill: f"To: {fill[:900]}\n" * 280,
    "a folded header": lambda fill: f"{RECIPIENT}X: {fill[:2]}\n " * 1000,
    "many headers": lambda _: "a:\n" * 80_000,
    "many parts": lambda _: REPORT + "--b\n" * 60_000,
    "many wrapped parts": lambda _: WRAPPED + "--b\n" * 60_000,
    "many wrapped headers": lambda _: WRAPPED + ("--b\n" + "a: b\n" * 300) * 30,
    "a long boundary": lambda fill: (
        f"{RECIPIENT}Content-Type: multipart/mixed; boundary=o\n\n--o\n"
        f'Content-Type: multipart/report; boundary="{fill[:900]}"\n\n--{fill}'
    ),
    "many recipients": lambda _: STATUS + "Status: 5.1.1\n\n" * 17_000,
    "many empty lines": lambda _: STATUS + "\n" * 250_000,
    "a long field": lambda fill: f"{STATUS}Action: failed\nDiagnostic-Code: {fill}",
    "anything": lambda fill: fill,
}


@pytest.mark.parametrize("shape", REPORTS)
def test_bounce_reports(shape: str) -> None:
    for pattern in PATTERNS.values():
        for fill in (filled(pattern, MAX_REPORT), filled(";", MAX_REPORT)):
            raw = REPORTS[shape](fill).encode("utf-8", "replace")[:MAX_REPORT]
            assert cpu_seconds(read_bounce, raw, DOMAIN, enough=CALL_SECONDS) < CALL_SECONDS


def test_payload_over_the_limit_is_not_read() -> None:
    data = b" " * MAX_PAYLOAD + b"null"
    payload = Payload(metadata={"encoding": b"json/plain"}, data=data)
    [found] = TolerantPayloadConverter().from_payloads([payload], [SmartAccountRequest])
    assert found == Unreadable((FieldError(field="request", message="is too large"),))
