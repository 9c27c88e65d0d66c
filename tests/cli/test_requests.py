"""The commands for one request, with a real Temporal server and worker."""

import asyncio
import os

import pytest

from smart_accounts.contract.messages import Status
from tests.cli.conftest import Starter, StartTemporal, StartWorker


def request_for(domain: str, *more: str) -> tuple[str, ...]:
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
    finished = await starter.run_in_new_interpreter(
        *request_for("one.example", "--user-email=bo@one.example", "--json")
    )
    assert (finished.code, finished.err) == (0, "")
    assert finished.json["workflow_id"] == "smart-account-one.example"
    assert finished.json["request_id"]
    assert finished.json["status"]["account_domain"] == "one.example"
    await starter.wait_for_status("one.example", Status.PENDING)

    shown = await starter("status", "One.Example")
    assert (shown.code, shown.err) == (0, "")
    assert "Acme Networks · one.example" in shown.out
    assert "pending" in shown.out
    assert "UTC" in shown.out
    assert max(map(len, shown.out.splitlines())) <= 80

    accepted = await starter("accept", "smart-account-one.example", "--accepted-by=ada@one.example")
    assert (accepted.code, accepted.err) == (0, "")
    assert accepted.out.startswith("Received. The request for one.example is ")
    status = await starter.wait_for_status("one.example", Status.ACTIVE)
    assert status.decided_by == "ada@one.example"

    late = await starter("decline", "one.example")
    assert (late.code, late.out) == (1, "")
    assert len(late.err.splitlines()) == 1


async def test_second_request_is_rejected(starter: Starter) -> None:
    assert (await starter(*request_for("two.example"))).code == 0
    finished = await starter(*request_for("two.example"))
    assert (finished.code, finished.out) == (1, "")
    assert len(finished.err.splitlines()) == 1
    as_json = await starter(*request_for("two.example", "--json"))
    assert (as_json.code, as_json.err) == (1, "")
    assert as_json.json["error"]["kind"] == "refused"
    assert as_json.json["error"]["message"] == finished.err.strip()


async def test_domain_with_an_account_is_rejected(starter: Starter) -> None:
    assert (await starter(*request_for("three.example"))).code == 0
    assert (await starter("accept", "three.example")).code == 0
    await starter.wait_for_status("three.example", Status.ACTIVE)
    await starter.wait_until_closed("three.example")
    finished = await starter(*request_for("three.example", "--json"))
    assert finished.code == 1
    assert "already has" in finished.json["error"]["message"]


async def test_decline(starter: Starter) -> None:
    assert (await starter(*request_for("four.example"))).code == 0
    declined = await starter("decline", "four.example", "--reason=Not us.", "--json")
    assert (declined.code, declined.err) == (0, "")
    status = await starter.wait_for_status("four.example", Status.DECLINED)
    assert status.reason == "Not us."
    await starter.wait_until_closed("four.example")
    again, late = await asyncio.gather(
        starter("decline", "four.example", "--json"), starter("accept", "four.example", "--json")
    )
    assert (again.code, again.json["status"]["reason"]) == (0, "Not us.")
    assert (late.code, late.err) == (1, "")
    assert "The request is declined." in late.json["error"]["message"]


async def test_commands_without_a_worker_are_recorded(
    start_temporal: StartTemporal, start_worker: StartWorker
) -> None:
    async with start_temporal() as (address, starter):
        asked = await starter(*request_for("later.example"))
        assert (asked.code, asked.err) == (0, "")
        assert asked.out.startswith(
            "The request is recorded as smart-account-later.example."
            " No worker has processed it yet."
        )
        answered, unknown = await asyncio.gather(
            starter("accept", "later.example"), starter("status", "later.example", "--json")
        )
        assert (answered.code, answered.err) == (0, "")
        assert answered.out.startswith("Received. No worker has processed it yet.")
        assert (unknown.code, unknown.json["error"]["kind"]) == (3, "unavailable")
        waiting = await starter("withdraw", "later.example")
        assert waiting.code == 3
        assert "The change may still be made" in waiting.err

        async with start_worker(address):
            await starter.wait_for_status("later.example", Status.ACTIVE)
            # Its closing emails are still queued, so it still accepts signals and ignores them.
            late = await starter("decline", "later.example")
            assert (late.code, late.out) == (1, "")
            assert late.err == "Another decision was made before. The request is active.\n"


async def test_resend_replace_and_withdraw(starter: Starter) -> None:
    assert (await starter(*request_for("eight.example"))).code == 0
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
    assert "An activation email to the new approver is on its way" in replaced.out
    same = await starter("replace-approver", "eight.example", "mailto:cy@EIGHT.example")
    assert (same.code, same.err) == (0, "")
    assert same.out == "This is already the approver's address. Nothing was changed.\n"
    status = await starter.wait_for_status("eight.example", Status.PENDING)
    assert "cy@eight.example" in [mail.recipient for mail in status.emails]

    nobody = await starter("withdraw", "eight.example", "--by=")
    assert (nobody.code, nobody.out) == (2, "")
    assert nobody.err.endswith("--by: must have at least 1 character\n")

    withdrawn = await starter(
        "withdraw", "eight.example", "--reason=Not needed.", "--by=opal", "--json"
    )
    assert (withdrawn.code, withdrawn.err) == (0, "")
    assert withdrawn.json["status"] == "withdrawn"
    await starter.wait_until_closed("eight.example")
    again, other = await asyncio.gather(
        starter("withdraw", "eight.example", "--by=oda", "--json"),
        starter("withdraw", "eight.example", "--json"),
    )
    assert (again.code, again.json["status"]) == (0, "withdrawn")
    assert other.code == 1
    assert other.json["error"]["message"] == "Too late: the request is already withdrawn."
    status = await starter.wait_for_status("eight.example", Status.WITHDRAWN)
    assert (status.reason, status.decided_by) == ("Not needed.", "operator")


async def test_review(starter: Starter) -> None:
    odd = request_for("ten.example", "--account-domain=odd.example")
    assert "in_review" in (await starter(*odd)).out
    early = await starter("accept", "odd.example")
    assert (early.code, early.out) == (1, "")
    assert "no answer counts" in early.err
    bad = await starter("review", "odd.example", "reject")
    assert (bad.code, bad.out) == (2, "")
    assert "--reason: is required to reject" in bad.err
    approved = await starter("review", "odd.example", "approve", "--by=opal")
    assert (approved.code, approved.err) == (0, "")
    assert "The customer gets the activation email" in approved.out
    late = await starter("review", "odd.example", "reject", "--reason=Too late.", "--json")
    assert late.code == 1
    assert "already approved" in late.json["error"]["message"]
    assert (await starter("accept", "odd.example")).code == 0
    await starter.wait_until_closed("odd.example")
    for repeat in (("review", "odd.example", "approve"), ("accept", "odd.example")):
        assert (await starter(*repeat)).code == 0
    late = await starter("review", "odd.example", "reject", "--reason=Too late.")
    assert (late.code, late.err) == (1, "Too late: the request is already active.\n")


async def test_unknown_request(starter: Starter) -> None:
    commands = [("status",), ("accept",), ("decline",), ("resend",), ("withdraw",)]
    calls = [starter(*each, "nobody.example") for each in commands]
    calls.append(starter("replace-approver", "nobody.example", "ada@nobody.example"))
    for finished in await asyncio.gather(*calls):
        assert (finished.code, finished.out) == (1, "")
        assert len(finished.err.splitlines()) == 1


async def test_list(starter: Starter) -> None:
    for domain in ("five.example", "six.example"):
        assert (await starter(*request_for(domain))).code == 0
    client = await starter.client()
    async with asyncio.timeout(40):  # the list is a little behind
        while "six.example" not in [each.account_domain async for each in client.list()]:
            await asyncio.sleep(0.05)
    finished = await starter("list", "--status=pending", "--json")
    assert (finished.code, finished.err) == (0, "")
    found = finished.json
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


async def test_terminal_that_cannot_show_a_name(starter: Starter) -> None:
    name = "Ärzte 東京"
    await starter(*request_for("eleven.example", f"--account-name={name}"))
    shown = await starter.run_in_new_interpreter(
        "status", "eleven.example", PYTHONIOENCODING="latin-1"
    )
    as_json = await starter("status", "eleven.example", "--json", encoding="ascii")
    wrong = await starter("withdraw", "東京", encoding="ascii")
    assert (shown.code, shown.err) == (0, "")
    assert "Ärzte ?? · eleven.example" in shown.out
    assert (as_json.code, as_json.err, as_json.json["status"]["account_name"]) == (0, "", name)
    assert (wrong.code, wrong.out) == (2, "")
    assert "must be a domain name" in wrong.err


async def test_text_of_others_cannot_control_the_terminal(starter: Starter) -> None:
    assert (await starter(*request_for("seven.example", "--account-name=[red]Acme[/]"))).code == 0
    evil = "\x1b[2J\u202e[bold]eve"
    assert (await starter("accept", "seven.example", f"--accepted-by={evil}")).code == 0
    await starter.wait_for_status("seven.example", Status.ACTIVE)
    shown = await starter.run_in_new_interpreter(
        "status", "seven.example", FORCE_COLOR="1", TERM="xterm"
    )
    assert "[red]Acme[/] · seven.example" in shown.out
    assert "\x1b[2J" not in shown.out
    assert "\u202e" not in shown.out
    assert "[2J�[bold]eve" in shown.out


@pytest.mark.parametrize("flags", [(), pytest.param(("--json",), marks=pytest.mark.full)])
async def test_closed_output_is_not_an_error(starter: Starter, flags: tuple[str, ...]) -> None:
    await starter(*request_for("nine.example"))
    reading, writing = os.pipe()
    os.close(reading)
    finished = await starter.run_in_new_interpreter(
        "status", "nine.example", *flags, stdout=writing
    )
    os.close(writing)
    assert finished.err == ""
