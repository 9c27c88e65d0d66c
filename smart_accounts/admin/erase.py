"""Erase a person's data from the database and from Temporal."""

from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

import typer
from pydantic import TypeAdapter, ValidationError

from smart_accounts.admin.erased_list import SETTING, ErasedList
from smart_accounts.cli import output
from smart_accounts.cli.asynchronous import asynchronous
from smart_accounts.contract.actions import Actor, Role, Withdrawal
from smart_accounts.contract.domains import mailbox
from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.fields import EmailAddress
from smart_accounts.errors import BadSetting, Rejected
from smart_accounts.settings import load_settings
from smart_accounts.store.database import create_engine
from smart_accounts.store.erasure import ARRIVED, REASON
from smart_accounts.store.people import Involvement, Part, Traces
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.executions import Executions
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.connection import connect
from smart_accounts.temporal.histories import Histories
from smart_accounts.text import counted, printable

OPERATOR = Actor(role=Role.OPERATOR, subject="admin erase")
NOT_REACHED = (
    "Not reached: backups; what the databases have deleted but not overwritten, until you run"
    " VACUUM, or VACUUM FULL on PostgreSQL; write-ahead logs; the mail server's queues and logs;"
    " emails in mailboxes; webhooks that were delivered; log files with client addresses; the"
    " identity provider; and starts that the database never got, until Temporal's retention has"
    " passed. See docs/operations.md."
)


@asynchronous
async def erase(
    email: Annotated[
        str | None,
        typer.Option(help="An address of the person. All addresses of its mailbox are erased."),
    ] = None,
    again: Annotated[
        bool,
        typer.Option("--again", help="After a restore: erase everyone on the list of erased."),
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only list what would be erased.")
    ] = False,
) -> None:
    """
    Erase a person's data from the database and from Temporal.

    Open requests that name the person are withdrawn, and an active account of which they are the
    approver must be closed first. It is safe to interrupt the command and to run it again.
    """
    if (email is None) is not again:
        raise BadInput([FieldError(field="email", message="is required, or else --again")])
    given = None if email is None else _mailbox(email)
    async with _open_eraser() as eraser:
        if given is None:
            await eraser.erase_listed(dry_run=dry_run)
        elif dry_run:
            _show_plan(await eraser.store.erasure.find(given), given)
        else:
            await eraser.erase(given)
            output.show(NOT_REACHED)


def _mailbox(email: str) -> str:
    try:
        return mailbox(TypeAdapter(EmailAddress).validate_python(email))
    except ValidationError as error:
        message = field_errors(error)[0].message
        raise BadInput([FieldError(field="email", message=message)]) from None


@dataclass(frozen=True)
class Eraser:
    """Erases people. What is done is printed, without addresses."""

    store: AccountStore
    requests: RequestClient
    histories: Histories
    erased: ErasedList

    async def erase(self, its_mailbox: str) -> None:
        """Erase one person.

        Raises:
            Rejected: something else must be done first. The message says what.
        """
        found = await self.store.erasure.find(its_mailbox)
        if not found.are_there:
            # A crash may have come after the store was erased.
            output.show("The database has nothing about this address.")
            return
        _check_accounts(found)
        # First, so that a restore after a crash does not bring the person back.
        self.erased.add(found.person.mailboxes)
        found = await self._withdraw_open_requests(found, its_mailbox)
        await self._delete_histories(found.ended)
        ids = [each.request.id for each in found.ended]
        counts = await self.store.erasure.erase(found.person, ids, datetime.now(UTC))
        output.show(f"Erased in the database: {_listed(counts)}.")
        if (await self.store.erasure.find(its_mailbox)).are_there:
            raise Rejected(ARRIVED)
        for each in found.requests:
            if each.stays_open:
                output.show(
                    f"Stays open: {_name(each)}. Its history in Temporal has the person's sign-in"
                    " as an operator's, until Temporal's retention has passed after its end."
                )

    async def erase_listed(self, *, dry_run: bool) -> None:
        """Erase everyone on the list again, after a restore of the database or of Temporal."""
        self.erased.check_exists()
        listed = sorted(await self.store.erasure.mailboxes(self.erased.has))
        problems = self.erased.problems()
        output.show(f"{len(listed)} erased mailboxes are in the database.")
        for its_mailbox in listed:
            if dry_run:
                _show_plan(await self.store.erasure.find(its_mailbox), its_mailbox)
                continue
            try:
                await self.erase(its_mailbox)
            except Rejected as problem:
                problems.append(str(problem))
        if not dry_run:
            await self._delete_restored_histories()
            output.show(NOT_REACHED)
        if problems:
            raise Rejected("Not everything could be erased.\n" + "\n".join(problems))

    async def _withdraw_open_requests(self, found: Traces, its_mailbox: str) -> Traces:
        while to_withdraw := [each for each in found.requests if each.must_be_withdrawn]:
            for each in to_withdraw:
                await self._withdraw(each)
            await self._wait_for_end(to_withdraw)
            found = await self.store.erasure.find(its_mailbox)
            _check_accounts(found)  # the customer may have accepted meanwhile
            _check_ended(found, to_withdraw)
        return found

    async def _withdraw(self, involved: Involvement) -> None:
        request = involved.request
        withdrawal = Withdrawal(reason=REASON, by=OPERATOR)
        # It is rejected if the request was decided a moment ago, or if Temporal has lost it.
        with suppress(Rejected):
            await self.requests.withdraw(request.workflow_id, withdrawal, run_id=request.id)
            output.show(f"Withdrawn: {_name(involved)}.")

    async def _wait_for_end(self, involved: Iterable[Involvement]) -> None:
        for each in involved:
            request = each.request
            if await self.histories.are_running(request.workflow_id, request.id):
                output.show(f"Waiting until the last emails of {_name(each)} are sent.")
                await self.histories.wait_for_end(request.workflow_id, request.id)

    async def _delete_histories(self, ended: Sequence[Involvement]) -> None:
        await self._wait_for_end(ended)
        output.show("Deleting the histories in Temporal. This can take a minute.")
        runs = [
            await self.histories.delete(each.request.workflow_id, each.request.id) for each in ended
        ]
        output.show(f"Deleted in Temporal: {counted(sum(runs), 'execution')}.")

    async def _delete_restored_histories(self) -> None:
        runs = [
            await self.histories.delete(each.workflow_id, each.id)
            async for each in self.store.erasure.erased_requests()
        ]
        output.show(f"Deleted in Temporal, of requests erased before: {sum(runs)} executions.")


@asynccontextmanager
async def _open_eraser() -> AsyncIterator[Eraser]:
    settings = load_settings()
    if settings.erased_list is None:
        raise BadSetting(f"{SETTING}: is required to erase. It names a file outside the database.")
    client = await connect()
    engine = create_engine(settings.database_url, may_take_long=True)
    try:
        store = AccountStore(engine)
        await store.ping()
        namespace = await store.comparison.namespace()
        if namespace not in (None, await Executions(client).namespace_id()):
            raise BadSetting("TEMPORAL_NAMESPACE: the requests of this database run in another one")
        erased = ErasedList(settings.erased_list, settings.signing_keys)
        yield Eraser(store, RequestClient(client), Histories(client), erased)
    finally:
        await engine.dispose()


def _check_accounts(found: Traces) -> None:
    """Check that the person is not the approver of an active account.

    Raises:
        Rejected: an operator must close an account first.
    """
    commands = [
        f"starter.py close {each.request.account_domain} --request-id {each.request.id}"
        ' --reason "…" --by YOU'
        for each in found.requests
        if each.must_be_closed
    ]
    if commands:
        raise Rejected(
            "The person is the approver of an active account. Everyone would lose access without a"
            " word, so close it first, or agree on another approver with the customer. Nothing was"
            " erased yet.\n" + "\n".join(commands)
        )


def _check_ended(found: Traces, withdrawn: Iterable[Involvement]) -> None:
    """Check that the database knows the end of requests that were withdrawn.

    Raises:
        Rejected: Temporal has no open execution of a request that is open in the database.
    """
    ids = {each.request.id for each in withdrawn}
    for each in found.requests:
        if each.must_be_withdrawn and each.request.id in ids:
            raise Rejected(
                f"The database says that {_name(each)} is open, but Temporal has no open"
                " execution of it. Check TEMPORAL_NAMESPACE, or let the sweep settle the request."
                " Then run the command again."
            )


def _show_plan(found: Traces, its_mailbox: str) -> None:
    person = found.person
    others = sorted(person.mailboxes - {its_mailbox})
    output.show(f"Nothing was changed. Signed in as {len(person.identities)} identities.")
    for other in others:
        output.show(f"The same person also signed in with {printable(other)}.")
    for each in found.requests:
        output.show(f"{_name(each)}, {each.request.current_status}: {_what_happens(each)}")
    counts = Counter({name: len(rows) for name, rows in found.rows.items() if rows})
    output.show(f"Rows in the database: {_listed(counts)}.")


def _what_happens(involved: Involvement) -> str:
    parts = ", ".join(sorted(involved.parts - {Part.NAMED})) or Part.NAMED
    if involved.must_be_closed:
        return f"{parts}; the account must be closed first"
    if involved.must_be_withdrawn:
        return f"{parts}; would be withdrawn"
    if involved.stays_open:
        return f"{parts}; stays open"
    return f"{parts}; its history would be deleted"


def _name(involved: Involvement) -> str:
    return f"request {involved.request.id} for {involved.request.account_domain}"


def _listed(counts: Counter[str]) -> str:
    rows = [f"{number} {name.replace('_', ' ')}" for name, number in sorted(counts.items())]
    return ", ".join(rows) or "nothing"
