"""A mail server that remembers, an account store, and the example request."""

import asyncio
import contextlib
import email
import email.policy
import functools
import gc
import json
import os
import re
import shutil
import socket
import threading
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from email.message import EmailMessage
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import cycle, repeat
from pathlib import Path
from random import SystemRandom
from typing import Any

import pytest
from aiosmtpd.smtp import SMTP, Envelope, Session
from joserfc import jwt
from joserfc.jwk import RSAKey
from sqlalchemy import text
from temporalio.api.enums.v1 import EventType
from temporalio.api.history.v1 import HistoryEvent
from temporalio.client import WorkflowHistory
from xdist.scheduler import LoadScopeScheduling

from smart_accounts.store.database import create_engine, migrate, transaction
from smart_accounts.store.store import AccountStore

pytest_plugins = [
    "tests.support.browser",
    "tests.support.temporal_server",  # before service, which imports it
    "tests.support.postgres",
    "tests.support.service",
]

os.umask(0o022)  # PostgreSQL runs as another user, and reads the files that are copied for it

KEY = "a-key-for-tests-that-is-long-enough-to-be-one"
BASE_URL = "https://accounts.example"


_PORT_RANGE = 1000
_FIRST_PORT = 10_000 + _PORT_RANGE * int(os.environ.get("PYTEST_XDIST_WORKER", "gw0")[2:])
_ports = cycle(SystemRandom().sample(range(_FIRST_PORT, _FIRST_PORT + _PORT_RANGE), k=_PORT_RANGE))


def _free_port() -> int:
    """One that stays free until it is used.

    It lies below those that systems hand out at random, so that no connection made in the
    meantime takes it, and in a range of this process's own, beside those of a local stack.
    """
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class MailServer:
    """A real SMTP server that keeps every mail and can be told how to misbehave."""

    def __init__(self) -> None:
        self.port = _free_port()
        self.mails: list[EmailMessage] = []
        self.refusals: dict[str, str] = {}
        """By recipient: the answer to its RCPT, such as ``451 later``."""
        self.turns_away: Iterator[bool] = repeat(False)
        """Of the next tries, one after the other: whether it is answered 451."""
        self.turned_away = 0
        self.cuts: Iterator[bool] = repeat(False)
        """Of the next emails: whether it is kept but never acknowledged: the connection breaks."""
        self.cut: list[EmailMessage] = []
        self.holds = False
        """Whether emails are kept without an answer for the time being; ``held`` counts them."""
        self.held = 0
        self.attempts: Counter[str] = Counter()
        self.slow: set[str] = set()
        """Recipients that get no answer to their RCPT for the time being; ``slow_at`` counts."""
        self.slow_at = 0
        self._server: asyncio.Server | None = None
        self._transports: set[Any] = set()

    async def up(self) -> None:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(
            lambda: SMTP(self, enable_SMTPUTF8=False, loop=loop), "127.0.0.1", self.port
        )

    async def down(self) -> None:
        if self._server:
            self._server.close()
            for transport in self._transports:
                transport.abort()
            self._transports.clear()
            self._server = None

    async def handle_EHLO(  # noqa: N802 - aiosmtpd's name
        self,
        server: SMTP,
        session: Session,
        envelope: Envelope,
        hostname: str,
        responses: list[str],
    ) -> list[str]:
        session.host_name = hostname
        self._transports.add(server.transport)
        return responses

    async def handle_RCPT(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope, address: str, options: list[str]
    ) -> str:
        self.attempts[address] += 1
        if address in self.slow:
            self.slow_at += 1
            while address in self.slow:
                await asyncio.sleep(0.02)
        if address in self.refusals:
            return self.refusals[address]
        if next(self.turns_away):
            self.turned_away += 1
            return "451 not now"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(  # noqa: N802 - aiosmtpd's name
        self, server: SMTP, session: Session, envelope: Envelope
    ) -> str:
        assert isinstance(envelope.content, bytes)
        mail = email.message_from_bytes(envelope.content, policy=email.policy.default)
        mail["Return-Path"] = envelope.mail_from  # as the last server on an email's way does
        self.mails.append(mail)
        if next(self.cuts):
            self.cut.append(mail)
            assert isinstance(server.transport, asyncio.Transport)
            server.transport.abort()
        elif self.holds:
            self.held += 1
            while self.holds:
                await asyncio.sleep(0.02)
        return "250 OK"

    async def hung_up(self) -> None:
        """Until no one is connected, so that no email of a dead worker can still come in."""
        async with asyncio.timeout(40):
            while not all(transport.is_closing() for transport in self._transports):
                await asyncio.sleep(0.02)

    def kinds(self, to: str | None = None) -> list[str]:
        return [
            mail["X-Smart-Account-Mail"] for mail in self.mails if to is None or mail["To"] == to
        ]

    async def wait_for(self, kind: str, to: str | None = None) -> EmailMessage:
        async with asyncio.timeout(40):
            while True:
                for mail in self.mails:
                    if mail["X-Smart-Account-Mail"] == kind and to in (None, mail["To"]):
                        return mail
                await asyncio.sleep(0.02)


def _link_in(mail: EmailMessage) -> str:
    """The activation link as a customer would find it in the text."""
    body = mail.get_body(("plain",))
    assert body
    found = re.search(r"\S+/activate/\S+", body.get_content())
    assert found
    return found.group()


@pytest.fixture(scope="session")
def free_port() -> Callable[[], int]:
    return _free_port


@pytest.fixture
def link_in() -> Callable[[EmailMessage], str]:
    return _link_in


@pytest.fixture
async def mail_server() -> AsyncIterator[MailServer]:
    server = MailServer()
    await server.up()
    yield server
    await server.down()


@pytest.fixture(scope="session")
async def migrated_database(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty SQLite file to copy. Migrating one takes longer than most tests do."""
    path = tmp_path_factory.mktemp("migrated") / "store.db"
    await migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture
def database_url(migrated_database: Path, tmp_path: Path) -> str:
    shutil.copy(migrated_database, tmp_path / "store.db")
    return f"sqlite+aiosqlite:///{tmp_path / 'store.db'}"


@pytest.fixture
async def store(database_url: str) -> AsyncIterator[AccountStore]:
    async with AccountStore.open(database_url) as opened:
        yield opened


async def _rows(url: str, query: str) -> list[dict[str, Any]]:
    engine = create_engine(url)
    try:
        async with transaction(engine, writes=True) as connection:
            result = await connection.execute(text(query))
            return [dict(row._mapping) for row in result] if result.returns_rows else []
    finally:
        await engine.dispose()


@pytest.fixture
def query_rows() -> Any:
    """Ask a database itself, past the store."""
    return _rows


@pytest.fixture
def ask(database_url: str) -> Any:
    return lambda query: _rows(database_url, query)


@pytest.fixture
def example() -> dict[str, Any]:
    """A request as any client in any language would write it."""
    return {
        "account_name": "Acme Networks",
        "account_domain": "acme.example",
        "customer_email": "ada@acme.example",
        "note_to_customer": "As agreed on the phone.",
        "user_emails": ["bo@acme.example"],
        "note_to_added_users": "Welcome aboard.",
        "requester": {
            "email": "pat@partner.example",
            "name": "Pat Lee",
            "company": "Partner Ltd",
        },
    }


HISTORIES = Path(__file__).parent / "histories"


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[str, WorkflowHistory], None]:
    """With ``--keep-histories``, store one that is not there yet, to be replayed ever after."""

    def store_it(name: str, history: WorkflowHistory) -> None:
        path = HISTORIES / f"{name}.json"
        if request.config.getoption("--keep-histories") and not path.exists():
            path.write_text(history.to_json() + "\n")

    return store_it


def _actions(events: Sequence[HistoryEvent]) -> int:
    single = {
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_STARTED,
        EventType.EVENT_TYPE_ACTIVITY_TASK_SCHEDULED,
        EventType.EVENT_TYPE_TIMER_STARTED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_SIGNALED,
        EventType.EVENT_TYPE_WORKFLOW_EXECUTION_UPDATE_ACCEPTED,
        EventType.EVENT_TYPE_START_CHILD_WORKFLOW_EXECUTION_INITIATED,
        EventType.EVENT_TYPE_UPSERT_WORKFLOW_SEARCH_ATTRIBUTES,
        EventType.EVENT_TYPE_MARKER_RECORDED,  # one for each task with local activities
    }
    retries: int = sum(
        event.activity_task_started_event_attributes.attempt - 1
        for event in events
        if event.event_type == EventType.EVENT_TYPE_ACTIVITY_TASK_STARTED
    )
    return sum(event.event_type in single for event in events) + retries


@pytest.fixture
def actions() -> Callable[[Sequence[HistoryEvent]], int]:
    """What Temporal Cloud bills for these events, as its pricing page counts Actions."""
    return _actions


SERVERS = {
    *("dev_server", "env", "postgres", "any_database_url", "chromium", "new_dev_server"),
    *("stack", "starter", "local_provider", "certified_provider"),
    # In the process of the tests themselves:
    *("mail_server", "issuer", "open_site", "desk", "api_on", "mailbox", "url"),
}
TOGETHER = {
    "tests/local/test_whole_story.py": "stack",
    "tests/local/test_access_token.py": "stack",
    "tests/cli/test_requests.py": "starter",
    "tests/cli/test_import.py": "starter",
    "tests/web/auth/test_real_providers.py": "identity providers",
}
"""Files whose tests run in one process, because the servers they share take seconds to start."""


def pytest_itemcollected(item: pytest.Item) -> None:
    """Mark tests that need a server. A test that starts one without a fixture is marked by hand."""
    if SERVERS.intersection(getattr(item, "fixturenames", ())):
        item.add_marker(pytest.mark.server)


# pytest-xdist 3.8 has ``--dist=loadgroup`` for this, but it has no effect on pytest 9.2.
class Together(LoadScopeScheduling):  # type: ignore[misc]  # it ships no types
    def _split_scope(self, nodeid: str) -> str:
        return TOGETHER.get(nodeid.partition("::")[0], nodeid)


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Together:
    return Together(config, log)


def pytest_collection_finish() -> None:
    """Keep the garbage collector from walking through all imported modules again and again."""
    gc.collect()
    gc.freeze()


@pytest.hookimpl(trylast=True)  # after pytest-randomly
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put the longest tests first, so that they run beside others and not alone at the end."""
    items.sort(key=lambda item: item.path.parent.name not in ("faults", "local"))


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--keep-histories",
        action="store_true",
        help="store the histories of this run's paths under tests/histories, for the next release",
    )
    parser.addoption(
        "--full", action="store_true", help="the faults in their full number and length"
    )


@functools.cache
def _signing_key(kid: str) -> RSAKey:
    return RSAKey.generate_key(2048, {"kid": kid, "use": "sig"})


class Issuer:
    """An identity provider that signs whatever it is told to, on a port of its own."""

    AUDIENCE = "smart-accounts-api"

    def __init__(self) -> None:
        self.keys = [_signing_key("first")]
        self.asked: list[str] = []
        self.answer_after = 0.0
        self.claims_to_be: str | None = None
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def close(self) -> None:
        if self._thread.is_alive():
            self._server.shutdown()
            self._thread.join()
            self._server.server_close()

    @property
    def settings(self) -> dict[str, str]:
        return {"oidc_issuer": self.url, "oidc_client_id": "web", "oidc_audience": self.AUDIENCE}

    def claims(self, **changes: Any) -> dict[str, Any]:
        """Pat's, good for an hour; ``None`` takes a claim out."""
        claims = {
            "iss": self.url,
            "aud": self.AUDIENCE,
            "sub": "pat",
            "exp": int(time.time()) + 3600,
            "scope": "openid smart-accounts",
            "email": "pat@partner.example",
            "email_verified": True,
            "name": "Pat Lee",
            "company": "Partner Ltd",
        } | changes
        return {name: value for name, value in claims.items() if value is not None}

    def token(self, header: dict[str, Any] | None = None, **changes: Any) -> str:
        head = {"alg": "RS256", "kid": "first"} | (header or {})
        return jwt.encode(head, self.claims(**changes), self.keys[0], algorithms=[head["alg"]])

    def headers(self, **changes: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token(**changes)}"}

    def _answer(self, path: str) -> dict[str, Any]:
        if path == "/.well-known/openid-configuration":
            endpoints = ("authorization", "token")
            found = {f"{name}_endpoint": f"{self.url}/{name}" for name in endpoints}
            jwks = {"issuer": self.claims_to_be or self.url, "jwks_uri": f"{self.url}/keys"}
            return found | jwks
        return {"keys": [key.as_dict(private=False) for key in self.keys]}

    def _handler(issuer) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - self is the handler's
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked.append(self.path)
                time.sleep(issuer.answer_after)
                body = json.dumps(issuer._answer(self.path)).encode()
                with contextlib.suppress(OSError):  # whoever asked may have gone
                    self.send_response(200)
                    self.send_header("Content-Length", str(len(body)))
                    self.end_headers()
                    self.wfile.write(body)

            def log_message(self, *_: Any) -> None:
                pass

        return Handler


@pytest.fixture
def issuer() -> Iterator[Issuer]:
    opened = Issuer()
    yield opened
    opened.close()
