"""Which events the security log has, and what its lines contain."""

import json
import re
import uuid
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from urllib.parse import quote

import httpx
import pytest

from smart_accounts.contract.identity import Identity
from smart_accounts.errors import NotFound, Rejected, Unavailable
from smart_accounts.web.security_log import Event, Outcome, SecurityLog
from tests.support import security_events as causes
from tests.support.identity_provider import NewVisitor
from tests.support.keys import KEY, NEW_KEY, OLD_KEY
from tests.support.security_events import Cause, Scene, act, answer, call, on_webhook, post, start

LOGGER = "smart_accounts.security"


@pytest.fixture
async def scene(new_visitor: NewVisitor) -> Scene:
    visitor = await new_visitor(max_open_per_customer=1)
    domain = f"{uuid.uuid4().hex}.example"
    token = await visitor.site.add_request(
        workflow_id=f"smart-account-{domain}",
        account_domain=domain,
        customer_email=f"ada@{domain}",
        requester_issuer=visitor.provider.url,
    )
    scene = Scene(visitor, domain, token)
    await scene.sign_in()
    return scene


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[], list[str]]:
    """Return the lines that were written so far."""
    caplog.set_level("INFO", LOGGER)
    return lambda: [
        each.getMessage() for each in caplog.records if each.name == "smart_accounts.security"
    ]


LONGEST_LINE = 600  # characters; 256 of them may be the workflow id

NOBODY, REQUESTER, OPERATOR = None, "requester", "operator"
SUCCESS, FAILURE, UNKNOWN = Outcome
OUTAGE = Unavailable("Temporal does not respond.")
REJECTED = Rejected("A decision was made.")
ENDED = NotFound("The request has ended.")

EVENTS: list[tuple[Cause, Event, Outcome, str | None, str | None, str]] = [
    (causes.sign_in, Event.SIGN_IN, SUCCESS, None, REQUESTER, ""),
    (causes.sign_in_as_operator, Event.SIGN_IN, SUCCESS, None, OPERATOR, ""),
    (causes.return_without_a_start, Event.SIGN_IN, FAILURE, "state", NOBODY, ""),
    (causes.return_with("access_denied"), Event.SIGN_IN, FAILURE, "denied", NOBODY, ""),
    (causes.return_with("server_error"), Event.SIGN_IN, FAILURE, "provider", NOBODY, ""),
    (causes.sign_in_with(aud="other"), Event.SIGN_IN, FAILURE, "token", NOBODY, ""),
    (causes.sign_in_with(name=""), Event.SIGN_IN, FAILURE, "claims", NOBODY, ""),
    (causes.sign_in_with(email_verified=False), Event.SIGN_IN, FAILURE, "email", NOBODY, ""),
    (
        causes.sign_in_with(email_verified=None),
        Event.SIGN_IN,
        FAILURE,
        "email-unstated",
        NOBODY,
        "",
    ),
    (causes.sign_in_during_an_outage, Event.SIGN_IN, UNKNOWN, None, NOBODY, ""),
    (causes.sign_in_without_a_session, Event.SIGN_IN, UNKNOWN, None, REQUESTER, ""),
    (post("/sign-out"), Event.SIGN_OUT, SUCCESS, None, REQUESTER, ""),
    (post("/sessions/end-all"), Event.SIGN_OUT, SUCCESS, "all-sessions", REQUESTER, ""),
    (causes.end_own_session, Event.SIGN_OUT, SUCCESS, "one-session", REQUESTER, ""),
    (post(f"/sessions/{'0' * 64}/end"), Event.ACCESS, FAILURE, None, REQUESTER, ""),
    (causes.enter_company, Event.COMPANY, SUCCESS, None, REQUESTER, ""),
    (causes.signed_out("POST", "/requests"), Event.SESSION, FAILURE, None, NOBODY, ""),
    (causes.signed_out("GET", "/api/v1/requests"), Event.TOKEN, FAILURE, "missing", NOBODY, ""),
    (call(aud="other"), Event.TOKEN, FAILURE, "invalid", NOBODY, ""),
    (call(scope="openid"), Event.SCOPE, FAILURE, "scope", NOBODY, ""),
    (call(email_verified=False), Event.SCOPE, FAILURE, "claims", NOBODY, ""),
    (call(company="", sub="new"), Event.SCOPE, FAILURE, "company", NOBODY, ""),
    (causes.signed_out("GET", "/activate/unknown"), Event.LINK, FAILURE, None, NOBODY, ""),
    (causes.open_as_kim, Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (causes.call_as_kim, Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (post("/requests", csrf="guessed"), Event.CROSS_SITE, FAILURE, "token", REQUESTER, ""),
    (causes.send_form_from_another_site, Event.CROSS_SITE, FAILURE, "origin", REQUESTER, ""),
    (causes.answer_from_another_site, Event.CROSS_SITE, FAILURE, "origin", NOBODY, ""),
    (causes.try_many_links, Event.RATE_LIMIT, FAILURE, "unknown-links", NOBODY, ""),
    (causes.sign_in_often, Event.RATE_LIMIT, FAILURE, "sign-ins", NOBODY, ""),
    (causes.fail_to_sign_in, Event.RATE_LIMIT, FAILURE, "failed-sign-ins", NOBODY, ""),
    (causes.reach_the_limit, Event.REQUEST_LIMIT, FAILURE, None, REQUESTER, "other"),
    (start(), Event.START, SUCCESS, None, REQUESTER, "other"),
    (start(REJECTED), Event.START, FAILURE, None, REQUESTER, "other"),
    (start(OUTAGE), Event.START, UNKNOWN, None, REQUESTER, "other"),
    (start(over_api=True), Event.START, SUCCESS, None, REQUESTER, "other"),
    (start(OUTAGE, over_api=True), Event.START, UNKNOWN, None, REQUESTER, "other"),
    (act("resend"), Event.RESEND, SUCCESS, None, REQUESTER, "request"),
    (act("replace-approver"), Event.REPLACE_APPROVER, SUCCESS, None, REQUESTER, "request"),
    (act("withdraw"), Event.WITHDRAW, SUCCESS, None, REQUESTER, "request"),
    (act("withdraw", REJECTED), Event.WITHDRAW, FAILURE, None, REQUESTER, "request"),
    (act("withdraw", OUTAGE), Event.WITHDRAW, UNKNOWN, None, REQUESTER, "request"),
    (act("withdraw", operator=True), Event.WITHDRAW, SUCCESS, None, OPERATOR, "request"),
    (act("approve", operator=True), Event.APPROVE, SUCCESS, None, OPERATOR, "request"),
    (act("reject", operator=True), Event.REJECT, SUCCESS, None, OPERATOR, "request"),
    (
        act("reject", over_api=True, operator=True),
        Event.REJECT,
        SUCCESS,
        None,
        OPERATOR,
        "request",
    ),
    (act("close", operator=True), Event.CLOSE, SUCCESS, None, OPERATOR, "request"),
    (act("close", over_api=True, operator=True), Event.CLOSE, SUCCESS, None, OPERATOR, "request"),
    (act("close"), Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (act("close", over_api=True), Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (act("approve"), Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (act("approve", over_api=True), Event.ACCESS, FAILURE, None, REQUESTER, "workflow"),
    (act("resend", over_api=True), Event.RESEND, SUCCESS, None, REQUESTER, "request"),
    (
        act("replace-approver", over_api=True, operator=True),
        Event.REPLACE_APPROVER,
        SUCCESS,
        None,
        OPERATOR,
        "request",
    ),
    (act("withdraw", ENDED, over_api=True), Event.WITHDRAW, FAILURE, None, REQUESTER, "request"),
    (answer(), Event.ACCEPTED, SUCCESS, None, NOBODY, "request"),
    (answer("", ENDED), Event.ACCEPTED, FAILURE, None, NOBODY, "request"),
    (answer("", OUTAGE), Event.ACCEPTED, UNKNOWN, None, NOBODY, "request"),
    (answer("/decline"), Event.DECLINED, SUCCESS, None, NOBODY, "request"),
    (causes.register_webhook, Event.WEBHOOK_REGISTER, SUCCESS, None, REQUESTER, "endpoint"),
    (on_webhook("change"), Event.WEBHOOK_CHANGE, SUCCESS, None, REQUESTER, "endpoint"),
    (
        on_webhook("rotate-secret"),
        Event.WEBHOOK_ROTATE_SECRET,
        SUCCESS,
        None,
        REQUESTER,
        "endpoint",
    ),
    (on_webhook("pause", 2), Event.WEBHOOK_PAUSE, SUCCESS, None, REQUESTER, "endpoint"),
    (causes.resume_webhook, Event.WEBHOOK_RESUME, SUCCESS, None, REQUESTER, "endpoint"),
    (on_webhook("delete"), Event.WEBHOOK_DELETE, SUCCESS, None, REQUESTER, "endpoint"),
    (on_webhook("ping"), Event.WEBHOOK_PING, SUCCESS, None, REQUESTER, "endpoint"),
    (causes.ping_paused_webhook, Event.WEBHOOK_PING, FAILURE, None, REQUESTER, "endpoint"),
    (
        on_webhook("deliveries/{delivery}/resend"),
        Event.WEBHOOK_RESEND,
        SUCCESS,
        None,
        REQUESTER,
        "endpoint",
    ),
    (causes.forge_webhook_for_all, Event.ACCESS, FAILURE, None, REQUESTER, ""),
    (post("/webhooks/unknown/ping"), Event.ACCESS, FAILURE, None, REQUESTER, ""),
    (causes.fail(answer()), Event.UNEXPECTED, FAILURE, None, NOBODY, ""),
    (causes.fail(call()), Event.UNEXPECTED, FAILURE, None, REQUESTER, ""),
]


@pytest.mark.parametrize(("cause", "event", "outcome", "reason", "role", "about"), EVENTS)
async def test_each_event_has_one_line(
    scene: Scene,
    lines: Callable[[], list[str]],
    cause: Cause,
    event: Event,
    outcome: Outcome,
    reason: str | None,
    role: str | None,
    about: str,
) -> None:
    await cause(scene)
    found = [json.loads(line) for line in lines()]
    assert [each["event"] for each in found].count(event) == 1, found
    domain = f"other-{scene.domain}" if about == "other" else scene.domain
    time_ = datetime.fromisoformat(found[-1].pop("time"))
    assert timedelta() < datetime.now(UTC) - time_ < timedelta(minutes=5)
    person = scene.site.services.security_log.person(Identity(scene.provider.url, scene.subject))
    assert found[-1] == {
        "event": event,
        "outcome": outcome,
        "reason": reason,
        "address": "127.0.0.1",
        "person": person if role else None,
        "role": role,
        "workflow_id": f"smart-account-{domain}" if about not in ("", "endpoint") else None,
        "request_id": scene.site.request_id if about == "request" else None,
        "signed_out_person": person if event is Event.SIGN_OUT and reason else None,
        "endpoint_id": scene.endpoint_id if about == "endpoint" else None,
    }


async def test_operator_signs_a_person_out_everywhere(
    scene: Scene, lines: Callable[[], list[str]]
) -> None:
    pat = Identity(scene.provider.url, scene.subject)
    email = scene.provider.person["email"]
    await scene.sign_in(subject="opal", email="opal@service.example", is_operator=True)
    await scene.post("/sessions/end-all", email="nobody@partner.example")
    assert lines() == []
    await scene.post("/sessions/end-all", email=email)
    written = [json.loads(line) for line in lines()]
    log = scene.site.services.security_log
    assert {each["person"] for each in written} == {
        log.person(Identity(scene.provider.url, "opal"))
    }
    assert log.person(pat) in [each["signed_out_person"] for each in written]


def test_each_event_is_caused() -> None:
    assert {event for _, event, *_ in EVENTS} == set(Event)


async def test_pages_that_are_opened_as_usual_write_no_line(
    scene: Scene, lines: Callable[[], list[str]]
) -> None:
    for path in ("/", "/requests", f"/requests/{scene.workflow_id}", f"/activate/{scene.token}"):
        assert (await scene.get(path)).status_code == 200
    assert (await scene.call()).status_code == 200
    assert (await scene.get("/nowhere")).status_code == 404
    assert lines() == []


HOSTILE = 'pat@evil.example"\r\n{"event":"forged"}\u2028' + "pat@evil.example" * 300


async def test_values_from_outside_neither_forge_a_line_nor_get_into_one(
    scene: Scene, lines: Callable[[], list[str]]
) -> None:
    http, quoted = scene.site.http, quote(HOSTILE)
    await scene.sign_in(subject=HOSTILE, name="Eve Evil", company="Evil Ltd")
    for path in (
        f"/requests/{quoted}?run={quoted}",
        f"/requests/smart-account-{quoted}",
        f"/requests/smart-account-{'x' * 10_000}",
        f"/api/v1/requests/{quoted}",
        f"/activate/{quoted}?{quoted}",
        f"/sign-in/callback?state={quoted}&code={quoted}&error={quoted}",
    ):
        await http.get(path, headers={"User-Agent": quoted, "X-Forwarded-For": quoted})
        await http.post(path, data={"csrf": HOSTILE, "reason": HOSTILE})
    await scene.act("withdraw", reason="pat@evil.example")
    await scene.call(f"/{scene.workflow_id}/withdraw", {"reason": "pat@evil.example"})
    await http.post(f"/activate/{scene.token}/decline", data={"reason": "pat@evil.example"})
    await http.get("/api/v1/requests", headers={"Authorization": f"Bearer {quoted}"})
    await causes.sign_in_with(sub=HOSTILE, name=HOSTILE)(scene)
    await causes.return_with(HOSTILE)(scene)
    written = lines()
    assert len(written) >= 12
    for line in written:
        assert json.loads(line)["event"] in set(Event)
        assert len(line) < LONGEST_LINE
        assert line.isascii()
        assert "\n" not in line
        for secret in ("evil", "pat@", "forged", "xxx", scene.token):
            assert secret not in line.lower()


@pytest.mark.parametrize(
    ("client", "address"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8::ffff:0:0:1", "2001:db8::ffff:0:0:1"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%pat@evil.example", "fe80::1"),
        ("pat@evil.example", None),
        ("", None),
    ],
)
async def test_address_is_written_in_full_and_nothing_else(
    scene: Scene, lines: Callable[[], list[str]], client: str, address: str | None
) -> None:
    transport = httpx.ASGITransport(scene.site.app, client=(client, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as http:
        assert (await http.get("/activate/unknown")).status_code == 404
    assert [json.loads(line)["address"] for line in lines()] == [address]


def test_person_is_a_keyed_hash() -> None:
    log = SecurityLog([NEW_KEY, OLD_KEY])
    person = log.person(Identity("https://login.example", "pat"))
    assert re.fullmatch("[0-9a-f]{64}", person)
    assert SecurityLog([NEW_KEY]).person(Identity("https://login.example", "pat")) == person
    others = [
        SecurityLog([KEY]).person(Identity("https://login.example", "pat")),
        log.person(Identity("https://login.example", "kim")),
        log.person(Identity("https://other.example", "pat")),
        log.person(Identity("https://login.exampl", "epat")),
    ]
    assert len({person, *others}) == 5
