"""The command that closes an account, with a real Temporal server and worker."""

import asyncio
from uuid import uuid4

from smart_accounts.contract.messages import Status
from tests.cli.conftest import Starter, StartTemporal
from tests.cli.test_requests import request_for

REASON = "--reason=They asked us to."


async def start_active(starter: Starter, domain: str) -> str:
    """Start a request and accept it. Return its id."""
    started = await starter(*request_for(domain, "--json"))
    assert (await starter("accept", domain)).code == 0
    await starter.wait_for_status(domain, Status.ACTIVE)
    await starter.wait_until_closed(domain)
    return str(started.json["request_id"])


async def test_close(starter: Starter) -> None:
    await start_active(starter, "closed.example")
    missing = await starter("close", "closed.example")
    assert (missing.code, missing.out) == (2, "")
    assert "--reason: must not be empty" in missing.err
    for _ in range(2):
        closed = await starter("close", "closed.example", REASON, "--by=oda")
        assert (closed.code, closed.err) == (0, "")
        assert closed.out.startswith("The account is closed.")
    other = await starter("close", "closed.example", "--reason=Fraud.", "--json")
    assert (other.code, other.err) == (1, "")
    assert "was already closed" in other.json["error"]["message"]
    status = await starter.wait_for_status("closed.example", Status.ACTIVE)
    assert status.reason is None
    assert (await starter(*request_for("closed.example"))).code == 0


async def test_account_is_found_behind_a_rejected_request(starter: Starter) -> None:
    request_id = await start_active(starter, "older.example")
    assert (await starter(*request_for("older.example"))).code == 1
    await starter.wait_for_status("older.example", Status.REJECTED)
    client = await starter.client()
    async with asyncio.timeout(40):  # the list is a little behind
        while request_id not in [each.request_id async for each in client.list(Status.ACTIVE)]:
            await asyncio.sleep(0.05)
    assert await client.find_account("smart-account-older.example") == request_id
    assert (await starter("close", "older.example", REASON)).code == 0


async def test_request_that_temporal_no_longer_keeps(starter: Starter) -> None:
    request_id = await start_active(starter, "forgotten.example")
    unknown = await starter("close", "unknown.example", REASON)
    assert (unknown.code, unknown.out) == (1, "")
    assert "name the request with --request-id" in unknown.err
    wrong = await starter("close", "unknown.example", REASON, f"--request-id={request_id}")
    assert (wrong.code, wrong.err) == (1, "There is no active account to close.\n")
    named = await starter("close", "forgotten.example", REASON, f"--request-id={request_id}")
    assert (named.code, named.err) == (0, "")


async def test_closing_without_a_worker_is_received(start_temporal: StartTemporal) -> None:
    async with start_temporal() as (_, starter):
        closed = await starter("close", "later.example", REASON, f"--request-id={uuid4()}")
        assert (closed.code, closed.err) == (0, "")
        assert closed.out.startswith("Received. The account is closed as soon as a worker runs.")
