"""Encryption on a real Temporal server: nothing in clear, and nothing lost while keys change."""

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from itertools import count
from pathlib import Path
from tempfile import mkdtemp
from typing import Any
from unittest.mock import patch

import httpx
import pytest
from temporalio.api.common.v1 import Payload
from temporalio.api.enums.v1 import EventType
from temporalio.client import (
    Client,
    WorkflowFailureError,
    WorkflowHistory,
)
from temporalio.common import RawValue
from temporalio.exceptions import ApplicationError
from temporalio.worker import Replayer

from smart_accounts.admin.replay import _reason
from smart_accounts.contract.actions import (
    Actor,
    Closing,
    NewApprover,
    Review,
    ReviewDecision,
    Role,
    Withdrawal,
)
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.names import TASK_QUEUE, WORKFLOW_TYPE, closing_id, workflow_id
from smart_accounts.contract.steps import Addressee, Bounce, Email
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.codec import PayloadCipher, key_id_of
from smart_accounts.temporal.guard import worker_data_converter
from smart_accounts.temporal.needed_keys import payloads_in
from smart_accounts.temporal.records import Started
from tests.e2e.test_payload_encodings import update_raw
from tests.support.documents import code_block
from tests.support.encryption import World, end_of, handle_of, request_for, until
from tests.support.keys import KEY, NEW_KEY, OLD_KEY
from tests.support.mail_server import LinkIn, MailServer
from tests.support.patient_client import PatientClient
from tests.support.programs import Program
from tests.support.service import Service
from tests.support.temporal_server import DevServer, NewDevServer, terminate_open_workflows
from workflows.options import workflow_options


@pytest.fixture(scope="module")
async def server(
    new_dev_server: NewDevServer, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[tuple[DevServer, Path]]:
    file = tmp_path_factory.mktemp("temporal") / "temporal.db"
    server = new_dev_server(file)
    await server.start()
    yield server, file
    await server.stop()


@pytest.fixture
async def world(
    server: tuple[DevServer, Path], store: AccountStore, mail_server: MailServer
) -> AsyncIterator[World]:
    world = World(server[0], store, mail_server, server[1])
    yield world
    await terminate_open_workflows(await world.connect())


async def failure_of(
    client: PatientClient, domain: str, given: Any, sender: Client | None = None
) -> str:
    """Start a request with this input. Return the message with which its workflow fails."""
    await (sender or client._client).start_workflow(
        WORKFLOW_TYPE, given, id=workflow_id(domain), task_queue=TASK_QUEUE
    )
    handle = client._client.get_workflow_handle(workflow_id(domain))
    with pytest.raises(WorkflowFailureError) as failed:
        async with asyncio.timeout(60):
            await handle.result()
    assert isinstance(failed.value.cause, ApplicationError)
    assert failed.value.cause.type == "InvalidRequest"
    return failed.value.cause.message


async def has_failed(client: PatientClient, started: Started) -> bool:
    """Return True if Temporal has the failure of an activity."""
    described = await handle_of(client, started).describe()
    return any(each.attempt > 1 for each in described.raw_description.pending_activities)


async def live(world: World, client: PatientClient, word: str) -> list[str]:
    """Let requests live each kind of life. Return 21 personal words, one for each place."""
    by = Actor(role=Role.OPERATOR, subject=f"{word}16")
    owner = Identity(f"https://{word}09.example", f"{word}10")

    def domain(life: str) -> str:
        return f"{life}-{word}.example"

    async def start(life: str) -> Started:
        return await client.start(request_for(domain(life), word), key=f"{word}11", owner=owner)

    away, unknown = f"{word}02@{domain('outage')}", f"{word}02@{domain('refused')}"
    world.mail.refusals = {away: "451 4.2.0 later", unknown: f"550 5.1.1 no {word}19"}
    fault = ValueError(f"no {word}21")  # errors of libraries may quote anything
    with patch.object(world.store.emails, "begin", side_effect=fault):
        outage = await start("outage")
        while not await has_failed(client, outage):
            await asyncio.sleep(0.05)
    while world.mail.attempts[away] < 2:
        await asyncio.sleep(0.05)
    del world.mail.refusals[away]
    accepted, declined, withdrawn, bounced = [
        await start(life) for life in ("accepted", "declined", "withdrawn", "bounced")
    ]
    refused = await start("refused")
    for each in (accepted, declined, withdrawn, bounced):
        await until(client, each, Status.PENDING, sent=2)
    approver = NewApprover(customer_email=f"{word}15@{domain('accepted')}", by=by)
    await client.replace_approver(accepted.workflow_id, approver)
    await client.accept(accepted.workflow_id, accepted_by=f"{word}12")
    await client.decline(declined.workflow_id, reason=f"{word}13")
    await client.withdraw(withdrawn.workflow_id, Withdrawal(reason=f"{word}14", by=by))
    activation = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER)
    bounce = Bounce(email=activation, answer=f"550 {word}17")
    await client.report_bounce(bounced.workflow_id, run_id=bounced.request_id, bounce=bounce)

    elsewhere = {"customer_email": f"{word}02@elsewhere.example"}
    odd = request_for(domain("odd"), word).model_copy(update=elsewhere)
    rejected = await client.start(odd)
    await until(client, rejected, Status.IN_REVIEW)
    review = Review(decision=ReviewDecision.REJECT, reason=f"{word}20")
    await client.review(rejected.workflow_id, review)
    bad = odd.model_dump(mode="json") | {"account_name": f"<{word}01>"}
    assert (await failure_of(client, domain("bad"), bad)).startswith("account_name: ")

    await until(client, outage, Status.PENDING, sent=2)
    await client.withdraw(outage.workflow_id, Withdrawal())
    requests = (accepted, declined, withdrawn, bounced, refused, outage, rejected)
    ends = "active declined withdrawn undeliverable undeliverable withdrawn rejected"
    assert await end_of(client, *requests) == ends.split()
    closing = Closing(account_domain=domain("accepted"), reason=f"{word}18", by=by)
    await client.close(accepted.request_id, closing)
    await client._client.get_workflow_handle(closing_id(accepted.request_id)).result()
    return [f"{word}{number:02}" for number in range(1, 22)]


async def test_nothing_is_in_clear_with_keys_after_each_kind_of_life(
    world: World, pytestconfig: pytest.Config
) -> None:
    """Without keys, each word is found. With ``--full``, that is shown for each kind of life."""
    async with world.worker():
        client = await world.client()
        if pytestconfig.getoption("--full"):
            words = await live(world, client, "plover")
        else:
            await client.start(request_for("clear.example", "plover"))
            words = [f"plover{number:02}" for number in range(1, 9)]
    assert world.words_in_clear(words) == set(words)
    async with world.worker(KEY):
        # A word of its own, because other tests send theirs in clear.
        encrypted = await live(world, await world.client(KEY), "osprey")
    assert world.words_in_clear(encrypted) == set()


class Requests:
    """Starts requests for domains of their own, and lets their customers accept."""

    def __init__(self, name: str) -> None:
        self._domains = (f"{name}-{number}.example" for number in count(1))

    async def start(self, client: PatientClient) -> Started:
        started = await client.start(request_for(next(self._domains)))
        await until(client, started, Status.PENDING, sent=2)
        return started

    async def accept(self, client: PatientClient, *requests: Started) -> None:
        for each in requests:
            await client.accept(each.workflow_id, accepted_by="heron")
        assert set(await end_of(client, *requests)) == {"active"}


async def test_introduction_and_rotation_lose_no_open_request(world: World) -> None:
    requests = Requests("rotated")
    async with world.worker():
        client = await world.client()
        clear, clear_too = await requests.start(client), await requests.start(client)
    async with world.worker(OLD_KEY, plaintext=True):
        client = await world.client(OLD_KEY, plaintext=True)
        await requests.accept(client, clear)
        old, old_too = await requests.start(client), await requests.start(client)
    async with world.worker(OLD_KEY, NEW_KEY, plaintext=True):
        await requests.accept(await world.client(OLD_KEY, NEW_KEY, plaintext=True), old)
    async with world.worker(NEW_KEY, OLD_KEY, plaintext=True):
        client = await world.client(NEW_KEY, OLD_KEY, plaintext=True)
        new = await requests.start(client)
        await check_open_requests(world, {"new": 1, "old": 1, "clear": 1}, code=1)
        await requests.accept(client, clear_too, old_too)
        await check_open_requests(world, {"new": 1, "old": 0, "clear": 0}, code=0)
    async with world.worker(NEW_KEY):
        await requests.accept(await world.client(NEW_KEY), new)


async def check_open_requests(world: World, expected: dict[str, int], code: int) -> None:
    """Check what ``rotate-check`` finds, and its exit code in the environment after the rotation.

    Temporal's list of open workflows is a little behind.
    """
    new, old = PayloadCipher([NEW_KEY, OLD_KEY]).key_ids
    async with asyncio.timeout(60):
        while True:
            finished, found = await rotate_check(world, f"{NEW_KEY},{OLD_KEY}", "allowed")
            assert finished == 0
            keys = {each["id"]: each["open"] for each in found["keys"]}
            if {"new": keys[new], "old": keys[old], "clear": found["in_clear"]} == expected:
                break
    assert found["open"] == sum(expected.values())
    finished, found = await rotate_check(world, NEW_KEY, "")
    assert finished == code
    missing = [each["id"] for each in found["keys"] if not each["known"]]
    assert missing == ([old] if expected["old"] else [])


async def rotate_check(world: World, keys: str, plaintext: str) -> tuple[int, Any]:
    folder = Path(mkdtemp(dir=world.file.parent))
    environment = {
        "PATH": os.environ["PATH"],
        "TEMPORAL_ADDRESS": world.server.address,
        "SMART_ACCOUNTS_PAYLOAD_KEYS": keys,
        "SMART_ACCOUNTS_PAYLOAD_PLAINTEXT": plaintext,
    }
    program = Program(
        *("-m", "smart_accounts.admin", "rotate-check", "--json"),
        cwd=folder,
        env=environment,
        out=folder / "out",
        err=folder / "err",
    )
    code = await asyncio.to_thread(program.wait, 60)
    assert not (folder / "err").read_text()
    return code, json.loads((folder / "out").read_text())


async def test_what_an_unknown_key_encrypts_waits_for_the_key(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    requests = Requests("waiting")
    async with world.worker(OLD_KEY):
        first = await requests.start(await world.client(OLD_KEY))
        ahead = await world.client(NEW_KEY, OLD_KEY)  # it was restarted before the worker
        second = await ahead.start(request_for("ahead.example"))
        await ahead.accept(first.workflow_id, accepted_by="heron")
        async with asyncio.timeout(60):
            for each in (first, second):
                while await failed_tasks(ahead, each) == 0:
                    await asyncio.sleep(0.05)
    [missing] = PayloadCipher([NEW_KEY]).key_ids
    lines = [line for line in caplog.text.splitlines() if missing in line]
    assert len(lines) == 1, "without a stack trace for each try"
    async with world.worker(NEW_KEY, OLD_KEY):
        assert await end_of(ahead, first) == ["active"]
        await until(ahead, second, Status.PENDING, sent=2)


async def test_signals_that_nobody_can_read_are_dropped_by_a_reset(world: World) -> None:
    requests = Requests("reset")
    async with world.worker(KEY):
        client, stranger = await world.client(KEY), await world.client(NEW_KEY)
        started = await requests.start(client)
        await stranger.decline(started.workflow_id, reason="heron")
        async with asyncio.timeout(60):
            while await failed_tasks(client, started) == 0:
                await asyncio.sleep(0.05)
        script = code_block("docs/operations.md", "drop unreadable signals")
        environment = {
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "TEMPORAL_ADDRESS": world.server.address,
        }
        await asyncio.to_thread(
            subprocess.run,
            ["bash", "-euc", script.replace("smart-account-DOMAIN", started.workflow_id)],
            env=environment,
            check=True,
        )
        await client.accept(started.workflow_id, accepted_by="heron")
        newest_run = client._client.get_workflow_handle(started.workflow_id)
        async with asyncio.timeout(60):
            assert (await newest_run.result())["status"] == "active"


async def failed_tasks(client: PatientClient, started: Started) -> int:
    events = (await handle_of(client, started).fetch_history()).events
    return sum(event.event_type == EventType.EVENT_TYPE_WORKFLOW_TASK_FAILED for event in events)


def tampered(payload: Payload) -> Payload:
    changed = Payload()
    changed.CopyFrom(payload)
    changed.data = payload.data[:-1] + bytes([payload.data[-1] ^ 1])
    return changed


async def test_tampered_and_clear_payloads_are_no_messages(world: World) -> None:
    cipher, requests = PayloadCipher([KEY]), Requests("strict")
    in_clear = Payload(metadata={"encoding": b"json/plain"}, data=b'{"accepted_by": "heron"}')
    bad = {
        "must be encrypted": in_clear,
        "cannot be decrypted": tampered(cipher.encrypt(in_clear)),
    }
    async with world.worker(KEY):
        client, foreign = await world.client(KEY), await world.connect()
        started = await requests.start(client)
        for number, (problem, payload) in enumerate(bad.items()):
            for name in ("accepted", "declined", "bounced"):
                handle = foreign.get_workflow_handle(started.workflow_id)
                await handle.signal(name, RawValue(payload))
            outcome = await update_raw(foreign, started, "withdraw", payload)
            assert outcome.failure.message == f"request: {problem}"
            domain = f"tampered-{number}.example"
            message = await failure_of(client, domain, RawValue(payload), sender=foreign)
            assert message == f"request: {problem}"
        await until(client, started, Status.PENDING)
        assert await failed_tasks(client, started) == 0
        # Encryption is not access control: an acceptance needs no payload.
        await handle_of(client, started).signal("accepted")
        assert await end_of(client, started) == ["active"]
        history = await handle_of(client, started).fetch_history()
    await check_replays(world, history)


async def check_replays(world: World, history: WorkflowHistory) -> None:
    """Check that a tampered result of an activity fails the task, and does not end the request."""

    def replayer_with(key: str) -> Replayer:
        converter = worker_data_converter(world.settings(key))
        return Replayer(**workflow_options(), data_converter=converter)

    replayer = replayer_with(KEY)
    await replayer.replay_workflow(history)
    with pytest.raises(RuntimeError) as failed:
        await replayer_with(NEW_KEY).replay_workflow(history)
    assert _reason(failed.value).startswith("Temporal holds data that is encrypted with the key ")
    results = [
        event.activity_task_completed_event_attributes.result.payloads[0]
        if event.HasField("activity_task_completed_event_attributes")
        else event.marker_recorded_event_attributes.details["result"].payloads[0]
        for event in history.events
        if event.HasField("activity_task_completed_event_attributes")
        or "result" in event.marker_recorded_event_attributes.details
    ]
    assert len(results) >= 3
    for result in results:
        good = result.data
        result.data = tampered(result).data
        with pytest.raises(RuntimeError, match="Workflow activation completion failed"):
            await replayer.replay_workflow(history)
        result.data = good


async def test_all_programs_use_the_keys(service: Service, link_in: LinkIn) -> None:
    """In the strict phase, a worker reads nothing that another program sends in clear."""
    service.settings["SMART_ACCOUNTS_PAYLOAD_KEYS"] = KEY
    await service.start_worker()
    address = await service.start_web()
    options = {
        "account-name": "Heron",
        "customer-email": "heron@programs.example",
        "requester-email": "pat@partner.example",
        "requester-name": "Pat Lee",
        "requester-company": "Partner Ltd",
    }
    command = ["starter.py", "request", *(f"--{name}={text}" for name, text in options.items())]
    assert await asyncio.to_thread(service.launch(*command).wait, 60) == 0, service.log
    link = link_in(await service.mail.wait_for("activation"))
    async with httpx.AsyncClient(base_url=address, follow_redirects=True, timeout=30) as http:
        assert (await http.post(link, data={"agree": "yes"})).status_code == 200
        assert (await http.post("/codec/decode", json={})).status_code == 401
    handle = service.temporal.get_workflow_handle(workflow_id("programs.example"))
    await service.mail.wait_for("activated")
    async for event in handle.fetch_history_events():
        assert None not in set(map(key_id_of, payloads_in(event))), event

    mistyped = service.launch(*command, SMART_ACCOUNTS_PAYLOAD_KEYS="short")
    assert await asyncio.to_thread(mistyped.wait, 60) == 2
    assert service.log.splitlines()[-1].startswith("bad settings: SMART_ACCOUNTS_PAYLOAD_KEYS: ")
