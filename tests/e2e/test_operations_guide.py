"""Run the commands of the two guides as they are, but with the addresses of the test's servers.

The way from ``make run`` to production comes first: everything else runs on what it has set up.
"""

import asyncio
import re
from datetime import UTC, datetime, timedelta
from functools import partial

import pytest

from smart_accounts.contract.actions import NewApprover, Withdrawal
from smart_accounts.contract.messages import Status
from smart_accounts.store.migrate import revisions
from smart_accounts.temporal.records import Started
from tests.support.documents import ROOT
from tests.support.mail_server import MailServer
from tests.support.production import DATABASE, GUIDES, PYTHON, Production

RESEND = f"{PYTHON} -m smart_accounts.admin resend --by oda"


async def test_first_request(production: Production) -> None:
    assert (production.folder / ".env").stat().st_mode & 0o077 == 0
    await production.bash(production.block("is it ready"))
    code, shown = await production.python(production.block("first request"))
    assert (code, "pending" in shown) == (0, True), shown
    email = await production.mail.wait_for("activation", "you@corp.example")
    assert email["Return-Path"].endswith("@bounces.example.com")
    assert "https://accounts.example.com/activate/" in str(email)
    assert "temporal_" in await production.bash(production.block("metrics"))


async def test_resend_to_all_that_match(production: Production) -> None:
    mail = production.mail
    recipients = [_customer(await production.new_request()) for _ in range(2)]
    for to in recipients:
        await mail.wait_for("activation", to)
    await asyncio.sleep(3)  # a new link needs this pause
    script = production.block("resend to all that match")
    hour_ago = datetime.now(UTC) - timedelta(hours=1)
    script = script.replace("2026-11-01T00:00:00Z", hour_ago.strftime("%Y-%m-%dT%H:%M:%SZ"))
    dry_run, real_run = re.findall(r"\.venv.*?'\"\n", script, re.DOTALL)
    code, shown = await production.python(dry_run)
    assert (code, [to in shown for to in recipients]) == (0, [True, True]), shown
    assert [mail.kinds(to) for to in recipients] == [["activation"]] * 2
    for result in ("resent", "skipped"):
        _, shown = await production.python(real_run)
        assert len(re.findall(rf"corp-\d+\.example +{result} ", shown)) >= 2, shown
        await production.until(lambda: _were_sent_twice(mail, recipients))
    assert [mail.kinds(to).count("activation") for to in recipients] == [2, 2]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--returned --query x", "Give either --query or --returned."),
        ("--query ' '", "--query: must not be empty"),
        ("--query 'Start > 1'", "--query: is not a list filter of Temporal: "),
    ],
)
async def test_bad_options_of_resend(production: Production, words: str, message: str) -> None:
    code, shown = await production.python(f"{RESEND} {words}")
    assert (code, message in shown) == (2, True), shown


async def test_resend_takes_only_open_requests(production: Production) -> None:
    started = await production.new_request()
    await production.client.withdraw(started.workflow_id, Withdrawal())
    await production.temporal.get_workflow_handle(started.workflow_id).result()
    _, shown = await production.python(
        f"{RESEND} --dry-run --query \"SmartAccountStatus IS NOT NULL OR SmartAccountStatus = ''\""
    )
    assert started.workflow_id not in shown


def _customer(started: Started) -> str:
    return started.workflow_id.replace("smart-account-", "ada@")


async def _were_sent_twice(mail: MailServer, recipients: list[str]) -> bool:
    return all(mail.kinds(to).count("activation") >= 2 for to in recipients)


async def test_resend_what_was_returned(production: Production) -> None:
    started = await production.new_request(
        requester={"email": "kim@returned.example", "name": "Kim", "company": "Returned"}
    )
    to = _customer(started)
    await production.returned("activation", to)
    await production.returned("request-received", "kim@returned.example")
    await asyncio.sleep(3)  # a new link needs this pause
    script = production.block("resend what was returned")
    code, shown = await production.python(script)
    assert (code, "1 request: 1 resent." in shown) == (0, True), shown
    await production.until(lambda: _were_sent_twice(production.mail, [to]))
    assert await production.python(script) == (0, "No open request matches.\n")
    others = await production.bash(production.block("list other returned emails"))
    assert "request-received,kim@returned.example," in others
    assert "550 5.7.1 policy" in others
    assert to not in others
    event = "SELECT role, action, email FROM audit_events JOIN people ON person_id = people.id"
    database = f"postgresql://postgres@{production.addresses[DATABASE]}/smart_accounts"
    found = await production.bash(
        f"psql {database} -At -c \"{event} WHERE request_id = '{started.request_id}'\""
    )
    assert found == "operator|resend|Oda Ray\n"


async def test_emails_are_tried_at_once(production: Production) -> None:
    await production.mail.stop()
    requests = [await production.new_request() for _ in range(2)]

    async def tried(least: int) -> bool:
        found = [max((await production.attempts(each)).values(), default=0) for each in requests]
        return min(found) >= least

    async def was_reset() -> bool:
        return not await tried(4)

    await production.until(lambda: tried(4))
    await production.bash(production.block("try all emails at once"), answer="y\n")
    await production.until(was_reset)
    await production.until(lambda: tried(4))
    for each in requests:
        [activity_id] = await production.attempts(each)
        one = production.block("try the emails of one request at once")
        one = one.replace("smart-account-acme.example", each.workflow_id)
        await production.bash(one, ACTIVITY_ID=activity_id)
    await production.until(was_reset)
    await production.mail.start()
    for each in requests:
        await production.mail.wait_for("activation", _customer(each))


async def test_rate_limit_delays_emails_but_no_new_link(production: Production) -> None:
    limit = production.block("limit the rate of emails")

    async def set_limit(value: str) -> str:
        return await production.bash(limit.replace("-limit 5", f"-limit {value}"))

    assert "0.10 rps" in await set_limit("0.1")
    try:
        requests = [await production.new_request() for _ in range(8)]  # some pass at once
        for each in requests:
            await production.until(partial(_is_pending, production, each))
        last = requests[-1]
        new = NewApprover(customer_email=_customer(last).replace("ada", "cy"))
        await production.client.replace_approver(last.workflow_id, new)
        unsent = [each for each in requests if not production.mail.kinds(_customer(each))]
        assert len(unsent) >= 2, "the limit has no effect"
    finally:
        await set_limit("default")
    await production.mail.wait_for("activation", new.customer_email)


async def _is_pending(production: Production, started: Started) -> bool:
    status = await production.client.status(started.workflow_id)
    return status.status is Status.PENDING


async def test_end_many_requests(production: Production) -> None:
    started = await production.new_request()
    await production.mail.wait_for("activation", _customer(started))
    domain = started.workflow_id.removeprefix("smart-account-")
    of_domain = f"SmartAccountDomain = '{domain}'"
    await production.until(lambda: production.client.find_open(of_domain))
    script = production.block("end many requests").replace("corp.example", domain)
    shown = await production.bash(script, answer="y\n")
    assert "Total: 1" in shown
    await production.mail.wait_for("withdrawn", _customer(started))


async def test_find_requests_that_are_stuck(production: Production) -> None:
    shown = await production.bash(production.block("find requests that are stuck"))
    assert "smart-account" not in shown


async def test_backup_and_restore(production: Production) -> None:
    started = await production.new_request()
    await production.mail.wait_for("activation", _customer(started))
    await production.bash(production.block("back up the database"))
    await production.stop()
    await production.bash(production.block("restore the database"))
    revision = await production.bash(production.block("revision of the schema"))
    assert revision.strip() == revisions()[-1]
    await production.start()
    await production.client.accept(started.workflow_id)
    await production.mail.wait_for("welcome", _customer(started))


def test_every_command_is_run_by_a_test() -> None:
    """Where no test runs a command, its section says so."""
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("*.py"))
    text = "".join((ROOT / guide).read_text() for guide in GUIDES)
    for section in re.split("^## ", text, flags=re.MULTILINE):
        if "**Neither was run by us.**" in section:
            continue
        for before, script in re.findall(r"(.*\n) *```sh\n(.*?)```", section, re.DOTALL):
            [name] = re.findall(r"<!-- tested: (.*) -->\n\Z", before) or [""]
            assert f'"{name}"' in tests, script
