"""Erases people in the database and in Temporal, for the first time or after a restore."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime

from smart_accounts.admin.erased_list import ErasedList
from smart_accounts.cli import output
from smart_accounts.contract.actions import Actor, Role, Withdrawal
from smart_accounts.contract.messages import Status
from smart_accounts.contract.steps import Decision, ErasedRequest
from smart_accounts.errors import Rejected
from smart_accounts.store.erasure import ARRIVED, REASON
from smart_accounts.store.rebuilding import Rebuilt
from smart_accounts.store.records import ROLES, StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.store.traces import Involvement, Part, Traces
from smart_accounts.temporal.client import RequestClient
from smart_accounts.temporal.erasures import Erasures
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


@dataclass(frozen=True)
class Eraser:
    """Erases people. What is done is printed, without addresses."""

    store: AccountStore
    requests: RequestClient
    histories: Histories
    erasures: Erasures
    erased: ErasedList

    async def erase(self, its_mailbox: str, until: datetime | None = None) -> None:
        """Erase one person. With ``until``, erase again what is older, after a restore.

        Raises:
            Rejected: something else must be done first. The message says what.
        """
        found = await self.store.erasure.find(its_mailbox, until)
        if not found.are_there:
            # A crash may have come after the store was erased.
            output.show("The database has nothing about this address.")
            return
        _check_accounts(found)
        # First, so that a restore after a crash does not bring the person back.
        self._list(found)
        found = await self._withdraw_open_requests(found, its_mailbox)
        await self._delete_histories(found.ended)
        ids = [each.request.id for each in found.ended]
        self._list(found)  # with all that has come since
        counts = await self.store.erasure.erase(found.person, ids, datetime.now(UTC))
        output.show(f"Erased in the database: {_listed(counts)}.")
        if (await self.store.erasure.find(its_mailbox, until)).are_there:
            raise Rejected(ARRIVED)
        for each in found.requests:
            if each.stays_open:
                output.show(
                    f"Stays open: {_name(each)}. Its history in Temporal has the person's sign-in"
                    " as an operator's, until Temporal's retention has passed after its end."
                )

    async def show_plan(self, its_mailbox: str) -> None:
        """Show what would be erased."""
        _show_plan(await self.store.erasure.find(its_mailbox), its_mailbox)

    async def erase_listed(self, *, dry_run: bool) -> None:
        """Erase everyone on the list again, after a restore of the database or of Temporal.

        What they have done since their erasure stays.
        """
        self.erased.check_exists()
        problems = self.erased.problems()
        if not dry_run:
            problems += await self._restore_ends()
        left = 0
        for its_mailbox in sorted(await self.store.erasure.mailboxes(self.erased.has)):
            until = self.erased.erased_at(its_mailbox)
            found = await self.store.erasure.find(its_mailbox, until)
            left += found.are_there
            if dry_run and found.are_there:
                _show_plan(found, its_mailbox)
            elif found.are_there:
                with _noted(problems):
                    await self.erase(its_mailbox, until)
        output.show(f"Erased mailboxes that were in the database again: {left}.")
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
            until = found.person.until
            found = await self.store.erasure.find(its_mailbox, until)
            if until and await self._settle_lost(found):
                found = await self.store.erasure.find(its_mailbox, until)
            _check_accounts(found)  # the customer may have accepted meanwhile
            _check_ended(found, to_withdraw)
        return found

    async def _settle_lost(self, found: Traces) -> bool:
        """Withdraw requests whose history was erased before a restore. Nobody is told.

        Temporal no longer knows how such a request ended if its retention has passed.
        """
        lost = [
            each.request
            for each in found.requests
            if each.must_be_withdrawn and not await self.histories.are_there(each.request)
        ]
        for request in lost:
            withdrawn = Decision(
                status=Status.WITHDRAWN, at=datetime.now(UTC), by=Role.OPERATOR, reason=REASON
            )
            await self.store.rebuilding.restore_end(
                ErasedRequest(
                    request_id=request.id,
                    account_domain=request.account_domain,
                    decision=withdrawn,
                    link_ordinal=request.link_ordinal,
                    at=withdrawn.at,
                )
            )
        return bool(lost)

    async def _withdraw(self, involved: Involvement) -> None:
        request = involved.request
        withdrawal = Withdrawal(reason=REASON, by=OPERATOR)
        # It is rejected if the request was decided a moment ago, or if Temporal has lost it.
        with suppress(Rejected):
            await self.requests.withdraw(request.workflow_id, withdrawal, run_id=request.id)
            output.show(f"Withdrawn: {_name(involved)}.")

    async def _wait_for_end(self, involved: Iterable[Involvement]) -> None:
        for each in involved:
            if await self.histories.are_running(each.request):
                output.show(f"Waiting until the last emails of {_name(each)} are sent.")
                await self.histories.wait_for_end(each.request)

    async def _delete_histories(self, ended: Sequence[Involvement]) -> None:
        await self._wait_for_end(ended)
        output.show("Deleting the histories in Temporal. This can take a minute.")
        runs = 0
        for each in ended:
            # First, so that a store that is restored after a crash learns how it ended.
            await self.erasures.add(_erased(each.request, datetime.now(UTC)))
            runs += await self.histories.delete(each.request)
        output.show(f"Deleted in Temporal: {counted(runs, 'execution')}.")

    async def _delete_restored_histories(self) -> None:
        runs = 0
        async for each in self.store.erasure.erased_requests():
            if await self.histories.are_there(each):
                assert each.erased_at
                await self.erasures.add(_erased(each, each.erased_at))
                runs += await self.histories.delete(each)
        output.show(f"Deleted in Temporal, of requests erased before: {runs} executions.")

    async def _restore_ends(self) -> list[str]:
        """Tell a restored store how requests ended that were erased after its backup.

        Returns the problems. An account that can never be restored is only shown.
        """
        problems = []
        async for request_id, erased in self.erasures.all():
            known = await self.store.requests.find(request_id)
            if erased is None:
                if known and known.erased_at is None:
                    problems.append(
                        f"Temporal knows how the erased request {request_id} ended, but this cannot"
                        " be read. Check SMART_ACCOUNTS_PAYLOAD_KEYS."
                    )
                continue
            rebuilt = await self.store.rebuilding.restore_end(erased)
            lost = f"Lost: the account of {erased.account_domain}, request {request_id}."
            if rebuilt is Rebuilt.DOMAIN_TAKEN:
                output.show(f"{lost} A newer request has its domain.")
            elif known is None and erased.is_open:
                output.show(f"{lost} It is not in the backup, and its history was erased.")
        return problems

    def _list(self, found: Traces) -> None:
        if found.person.until is None:  # otherwise they are on the list, with an earlier time
            self.erased.add(found.person.mailboxes)


@contextmanager
def _noted(problems: list[str]) -> Iterator[None]:
    """Note why a person could not be erased, and go on with the next one."""
    try:
        yield
    except Rejected as problem:
        problems.append(str(problem))


def _erased(request: StoredRequest, at: datetime) -> ErasedRequest:
    """Return how a request ended, without what may name a person."""
    decision = Decision(
        status=request.status,
        at=request.decided_at or request.requested_at,
        by=request.decided_by if request.decided_by in (None, *ROLES) else "customer",
        reason=REASON if request.reason == REASON else None,
        is_report=request.is_reported,
    )
    return ErasedRequest(
        request_id=request.id,
        account_domain=request.account_domain,
        decision=decision,
        closed_at=request.closed_at,
        link_ordinal=request.link_ordinal,
        at=at,
    )


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
            "The person is the approver of an active account. Everyone would lose access without"
            " notice, so close it first, or agree on another approver with the customer. Nothing"
            " was erased yet.\n" + "\n".join(commands)
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
