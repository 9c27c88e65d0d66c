"""The client beside a real server and worker: one request at a time."""

import asyncio
import os
import time
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager

from smart_accounts.contract.messages import Status
from tests.cli.conftest import Starter

TemporalIn = Callable[[], AbstractAsyncContextManager[tuple[str, Starter]]]
WorkerAt = Callable[[str], AbstractAsyncContextManager[None]]


def asking_for(domain: str, *more: str) -> tuple[str, ...]:
    return (
        "request",
        "--account-name=Acme Networks",
        f"--customer-email=ada@{domain}",
        "--requester-email=pat@partner.example",
        "--requester-name=Pat Lee",
        "--requester-company=Partner Ltd",
        *more,
    )


async def test_from_request_to_active(starter: Starter) -> None:
    began = time.monotonic()
    ended = await starter(*asking_for("one.example", "--user-email=bo@one.example", "--json"))
    assert time.monotonic() - began < 20  # ten, and a busy machine's start of Python
    assert (ended.code, ended.err) == (0, "")
    assert ended.json["workflow_id"] == "smart-account-one.example"
    assert ended.json["request_id"]
    assert ended.json["status"]["account_domain"] == "one.example"
    await starter.becomes("one.example", Status.PENDING)

    shown = await starter("status", "One.Example")
    assert (shown.code, shown.err) == (0, "")
    assert "Acme Networks · one.example" in shown.out
    assert "pending" in shown.out
    assert "UTC" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80

    accepted = await starter("accept", "smart-account-one.example", "--accepted-by=ada@one.example")
    assert (accepted.code, accepted.err) == (0, "")
    assert accepted.out.startswith("Received. The request of one.example is ")
    status = await starter.becomes("one.example", Status.ACTIVE)
    assert status.decided_by == "ada@one.example"

    late = await starter("decline", "one.example")
    assert (late.code, late.out) == (1, "")
    assert len(late.err.splitlines()) == 1


async def test_a_second_request_is_refused(starter: Starter) -> None:
    assert (await starter(*asking_for("two.example"))).code == 0
    ended = await starter(*asking_for("two.example"))
    assert (ended.code, ended.out) == (1, "")
    assert len(ended.err.splitlines()) == 1
    as_json = await starter(*asking_for("two.example", "--json"))
    assert (as_json.code, as_json.err) == (1, "")
    assert as_json.json["error"]["kind"] == "refused"
    assert as_json.json["error"]["message"] == ended.err.strip()


async def test_a_domain_with_an_account_is_rejected(starter: Starter) -> None:
    assert (await starter(*asking_for("three.example"))).code == 0
    assert (await starter("accept", "three.example")).code == 0
    await starter.becomes("three.example", Status.ACTIVE)
    await starter.is_closed("three.example")
    ended = await starter(*asking_for("three.example", "--json"))
    assert ended.code == 1
    assert "already has" in ended.json["error"]["message"]


async def test_decline(starter: Starter) -> None:
    assert (await starter(*asking_for("four.example"))).code == 0
    declined = await starter("decline", "four.example", "--reason=Not us.", "--json")
    assert (declined.code, declined.err) == (0, "")
    status = await starter.becomes("four.example", Status.DECLINED)
    assert status.reason == "Not us."
    late = await starter("accept", "four.example", "--json")
    assert (late.code, late.err) == (1, "")
    assert late.json["error"]["message"]


async def test_without_a_worker_everything_is_recorded(
    temporal_in: TemporalIn, worker_at: WorkerAt
) -> None:
    async with temporal_in() as (address, starter):
        asked = await starter(*asking_for("later.example"))
        assert (asked.code, asked.err) == (0, "")
        assert "Recorded as smart-account-later.example; no worker has answered yet." in asked.out
        answered, unknown = await asyncio.gather(
            starter("accept", "later.example"), starter("status", "later.example", "--json")
        )
        assert (answered.code, answered.err) == (0, "")
        assert answered.out.startswith("Received. No worker has answered yet;")
        assert (unknown.code, unknown.json["error"]["kind"]) == (3, "unavailable")
        unheard = await starter("withdraw", "later.example")
        assert unheard.code == 3
        assert "It may still be done" in unheard.err

        async with worker_at(address):
            await starter.becomes("later.example", Status.ACTIVE)
            # Its closing emails are not out yet, so it still takes signals, and ignores them.
            late = await starter("decline", "later.example")
            assert (late.code, late.out) == (1, "")
            assert late.err == "Another decision was made before: the request is active.\n"


async def test_the_requesters_actions(starter: Starter) -> None:
    assert (await starter(*asking_for("eight.example"))).code == 0
    early = await starter("resend", "eight.example")
    assert (early.code, early.out) == (1, "")
    assert "An activation email has just been sent; try again at 20" in early.err

    for address, words in (
        ("pat@partner.example", "--customer-email: must differ from the requester's address"),
        ("cy", "--customer-email: must be one email address"),
    ):
        bad = await starter("replace-approver", "eight.example", address)
        assert (bad.code, bad.out) == (2, "")
        assert words in bad.err
    replaced = await starter("replace-approver", "eight.example", "cy@eight.example")
    assert (replaced.code, replaced.err) == (0, "")
    assert "The new approver is sent an activation email" in replaced.out
    status = await starter.becomes("eight.example", Status.PENDING)
    assert "cy@eight.example" in [mail.recipient for mail in status.emails]

    withdrawn = await starter("withdraw", "eight.example", "--reason=Not needed.", "--json")
    assert (withdrawn.code, withdrawn.err) == (0, "")
    assert withdrawn.json["status"] == "withdrawn"
    status = await starter.becomes("eight.example", Status.WITHDRAWN)
    assert (status.reason, status.decided_by) == ("Not needed.", "requester")


async def test_an_unknown_request(starter: Starter) -> None:
    commands = [("status",), ("accept",), ("decline",), ("resend",), ("withdraw",)]
    calls = [starter(*each, "nobody.example") for each in commands]
    calls.append(starter("replace-approver", "nobody.example", "ada@nobody.example"))
    for ended in await asyncio.gather(*calls):
        assert (ended.code, ended.out) == (1, "")
        assert len(ended.err.splitlines()) == 1


async def test_list(starter: Starter) -> None:
    for domain in ("five.example", "six.example"):
        assert (await starter(*asking_for(domain))).code == 0
    client = await starter.requests()
    async with asyncio.timeout(40):  # the list lags a little behind
        while "six.example" not in [each.account_domain async for each in client.list()]:
            await asyncio.sleep(0.05)
    ended = await starter("list", "--status=pending", "--json")
    assert (ended.code, ended.err) == (0, "")
    found = ended.json
    domains = [each["account_domain"] for each in found]
    assert domains.index("six.example") < domains.index("five.example")
    assert {each["status"] for each in found} == {"pending"}
    assert all(each["deadline"].endswith("Z") for each in found)

    shown = await starter("list")
    assert (shown.code, shown.err) == (0, "")
    assert "five.example" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80
    none = await starter("list", "--status=lapsed")
    assert (none.code, none.out) == (0, "No requests.\n")


async def test_what_others_wrote_can_not_steer_the_terminal(starter: Starter) -> None:
    assert (await starter(*asking_for("seven.example", "--account-name=[red]Acme[/]"))).code == 0
    evil = "\x1b[2J\u202e[bold]eve"
    assert (await starter("accept", "seven.example", f"--accepted-by={evil}")).code == 0
    await starter.becomes("seven.example", Status.ACTIVE)
    shown = await starter.in_a_process_of_its_own(
        "status", "seven.example", FORCE_COLOR="1", TERM="xterm"
    )
    assert "[red]Acme[/] · seven.example" in shown.out
    assert "\x1b[2J" not in shown.out
    assert "\u202e" not in shown.out
    assert "[2J�[bold]eve" in shown.out


async def test_a_reader_that_goes_away(starter: Starter) -> None:
    assert (await starter(*asking_for("nine.example"))).code == 0
    for flags in ((), ("--json",)):
        reading, writing = os.pipe()
        os.close(reading)
        ended = await starter.in_a_process_of_its_own(
            "status", "nine.example", *flags, stdout=writing
        )
        os.close(writing)
        assert ended.err == ""
