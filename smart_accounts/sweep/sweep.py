"""Compare the store with Temporal, and repair what differs.

A difference is repaired only after a look at the run itself, because Temporal's list is some
seconds behind. Every repair is safe to repeat, and to make twice at the same time.
"""

import logging
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import partial
from operator import itemgetter

from temporalio.client import (
    Client,
    WorkflowExecution,
    WorkflowExecutionDescription,
    WorkflowExecutionStatus,
)

from smart_accounts.contract.messages import CLOSING_TIME, Status
from smart_accounts.contract.names import IDEMPOTENCY_KEY
from smart_accounts.store.comparison import KnownRequest
from smart_accounts.store.rebuilding import Rebuilt, is_before_erasure, is_behind, lacks_end
from smart_accounts.store.store import AccountStore
from smart_accounts.sweep.differences import Difference, Kind, Repair, Report
from smart_accounts.sweep.executions import (
    Executions,
    is_final,
    is_run_of,
    may_have_newer_link,
    reset_run_of,
    run_to_store,
    status_of,
    was_seen_by_worker,
)
from smart_accounts.temporal.erasures import Erasures
from smart_accounts.temporal.memo import memo_value, owner_in
from smart_accounts.temporal.records import GONE
from smart_accounts.tokens import LinkTokens, token_hash

IGNORED_AGE = timedelta(minutes=10)
"""Younger requests may differ, because their first steps are under way."""
SETTLE_MISSING_AFTER = timedelta(hours=1)
MAX_MISSING = 5
MAX_MISSING_SHARE = 100  # more than one in a hundred open requests
MAX_UNREADABLE = 10  # then stop trying, because each query waits for five seconds

Check = Callable[[], Awaitable[None]]

_log = logging.getLogger(__name__)


class Choice(StrEnum):
    """What to do with requests whose workflow is missing."""

    WAIT = "wait"
    """Settle them after an hour, unless there are too many."""
    RESTART = "restart"
    SETTLE = "settle"


class Sweeper:
    """One sweep. With ``dry_run`` it changes nothing."""

    def __init__(
        self,
        client: Client,
        store: AccountStore,
        tokens: LinkTokens,
        *,
        choice: Choice = Choice.WAIT,
        dry_run: bool = False,
        now: datetime | None = None,
        on_difference: Callable[[Difference], None] = lambda _: None,
    ) -> None:
        self._executions = Executions(client)
        self._erasures = Erasures(client)
        self._store = store
        self._tokens = tokens
        self._choice = choice
        self._now = now or datetime.now(UTC)
        self._may_write = not dry_run
        self._is_logged = not dry_run
        self._on_difference = on_difference
        self._held: str | None = None
        self._open_requests = 0
        self._checks: list[tuple[datetime, Check]] = []
        self._running: set[str] = set()
        self._missing: list[KnownRequest] = []
        self._found_again: list[str] = []
        self._erased: set[str] = set()
        self._settled: set[str] = set()
        self._unclear: set[str] = set()
        self._unreadable = 0
        self._differences: list[Difference] = []

    async def run(self) -> Report:
        namespace = await self._executions.namespace_id()
        is_known = await self._check_namespace(namespace)
        if is_known:
            await self._restore_ends_of_erased()  # before another repair takes them for lost
            await self._look_at_temporal()
        await self._look_at_store()
        # In the order of the requests, because a domain's earlier request must end first.
        for _, check in sorted(self._checks, key=itemgetter(0)):
            await check()
        await self._repair_missing()
        if is_known:
            await self._check_closings()
            await self._start_emails()
            await self._hand_over_webhooks()
        if self._may_write and not self._held:
            await self._store.comparison.set_namespace(namespace)
        return Report(self._open_requests, self._differences, self._held)

    def _note(self, kind: Kind, request_id: str, repair: Repair) -> None:
        """Log a difference as soon as it is repaired, because the sweep may fail at the next."""
        difference = Difference(kind, request_id, repair)
        self._differences.append(difference)
        self._on_difference(difference)
        if self._is_logged:
            subject = "endpoint" if kind is Kind.WEBHOOKS_UNSENT else "request"
            _log.warning("sweep: %s: %s %s: %s", kind, subject, request_id, repair)

    # ---- look for differences ------------------------------------------------------------

    async def _check_namespace(self, namespace: str) -> bool:
        """Return True if this is the namespace of the last sweeps, or if an operator says so.

        In another namespace, nothing is changed, and its workflows are not looked at.
        """
        known = await self._store.comparison.namespace()
        if known in (None, namespace) or self._choice is not Choice.WAIT:
            return True
        self._hold("Temporal's namespace is not the one that the last sweep saw.")
        self._may_write = False
        return False

    async def _restore_ends_of_erased(self) -> None:
        """Restore how requests ended that were erased after the backup of a restored store.

        Everyone in them is in the store again until ``admin erase --again``, so no email is sent.
        """
        async for request_id, erased in self._erasures.all():
            known = await self._store.comparison.find(request_id)
            if known is None or not is_before_erasure(known, erased):
                continue
            self._erased.add(known.id)
            if erased is None:
                if not known.status.is_final:
                    self._note(Kind.UNREADABLE, known.id, Repair.TRIED_AGAIN)
            elif lacks_end(known, erased):
                rebuilt = Rebuilt.DONE
                if self._may_write:
                    rebuilt = await self._store.rebuilding.restore_end(erased)
                self._note(Kind.STORE_BEHIND, known.id, _repair(rebuilt))

    async def _look_at_temporal(self) -> None:
        async for batch in self._executions.requests():
            known = await self._store.comparison.find_all([each.run_id for each in batch])
            for execution in batch:
                request = known.get(execution.run_id)
                if execution.status is WorkflowExecutionStatus.RUNNING:
                    self._running.add(request.id if request else execution.run_id)
                if self._is_old(execution.start_time) and await self._differs(execution, request):
                    check = partial(self._check_execution, execution)
                    self._checks.append((execution.start_time, check))

    async def _look_at_store(self) -> None:
        async for batch in self._store.comparison.open_requests():
            self._open_requests += len(batch)
            for known in batch:
                if known.id not in self._running and self._is_old(known.requested_at):
                    self._checks.append((known.requested_at, partial(self._check_request, known)))
                elif known.missing_since:
                    self._found_again.append(known.id)

    def _is_old(self, moment: datetime) -> bool:
        return moment < self._now - IGNORED_AGE

    async def _differs(self, run: WorkflowExecution, known: KnownRequest | None) -> bool:
        """Return True if a run should be looked at.

        This leaves out the closed runs of open requests, because the store leads to them.
        """
        if known is None:  # a start that was invalid has failed
            return run.status is not WorkflowExecutionStatus.FAILED
        if run.status is WorkflowExecutionStatus.RUNNING:
            if not known.status.is_final:
                is_approved = known.status is Status.IN_REVIEW and status_of(run) == Status.PENDING
                return is_approved or await may_have_newer_link(run, known.link_ordinal)
            return not is_final(status_of(run)) and self._ended_long_ago(known)
        if not known.status.is_final:
            return False
        return run.status in GONE or (known.was_settled and status_of(run) != known.status)

    def _ended_long_ago(self, known: KnownRequest) -> bool:
        """Return True if the workflow of an ended request must have ended too."""
        return known.decided_at is None or self._is_old(known.decided_at + CLOSING_TIME)

    # ---- confirm and repair one difference -----------------------------------------------

    async def _check_execution(self, listed: WorkflowExecution) -> None:
        run = await self._executions.describe(listed.id, listed.run_id)
        if run is None or reset_run_of(run) or not was_seen_by_worker(run):
            return  # it was deleted, the run after the reset counts, or nothing has happened
        known = await self._store.comparison.find(run.run_id)
        if known is None:
            known = await self._store.comparison.find(run.raw_info.first_run_id)
            if known:
                await self._set_run(known, run)
        if not await self._differs(run, known):
            return
        if known and known.status.is_final and run.status in GONE:
            await self._check_closing_emails(known)
        elif known and run.status is WorkflowExecutionStatus.RUNNING and known.status.is_final:
            self._note(Kind.TEMPORAL_BEHIND, known.id, Repair.WORKFLOW_ENDED)
            if self._may_write:
                await self._executions.cancel(run)
        else:
            await self._rebuild(run)

    async def _check_request(self, listed: KnownRequest) -> None:
        known = await self._store.comparison.find(listed.id)
        if known is None or known.status.is_final or known.id in self._erased:
            return  # an earlier check, or the workflow, has ended it
        run = await self._executions.find(known)
        if run is None:
            self._missing.append(known)
            return
        if not is_run_of(run, known):
            return  # a newer run has the domain: its first step continues this request or ends it
        if known.missing_since:
            self._found_again.append(known.id)
        if run.status is WorkflowExecutionStatus.RUNNING:
            await self._set_run(known, run)
        elif run.status in GONE:
            await self._settle(Kind.TERMINATED, known)
        else:
            await self._rebuild(run)

    async def _set_run(self, known: KnownRequest, run: WorkflowExecutionDescription) -> None:
        """Note the run of a request that was reset, so that the next sweep knows it."""
        run_id = run_to_store(run, known.id)
        if self._may_write and known.run_id != run_id:
            await self._store.comparison.set_run(known.id, run_id)

    async def _settle(self, kind: Kind, known: KnownRequest) -> None:
        if self._may_write and not await self._store.comparison.settle(known, self._now):
            return  # it has changed meanwhile
        self._settled.add(known.id)
        self._note(kind, known.id, Repair.WITHDRAWN)

    async def _rebuild(self, run: WorkflowExecutionDescription) -> None:
        has_workers = self._unreadable < MAX_UNREADABLE
        record = await self._executions.record(run) if has_workers else None
        if record is None:
            self._unreadable += 1
            first_run = run.raw_info.first_run_id
            first = await self._store.comparison.find(first_run)
            request_id = first.id if first else first_run
            self._unclear.add(request_id)
            self._note(Kind.UNREADABLE, request_id, Repair.TRIED_AGAIN)
            return
        known = await self._store.comparison.find(record.request_id)
        if known:
            await self._set_run(known, run)
        if not is_behind(known, record):
            return
        rebuilt, key = Rebuilt.DONE, await memo_value(run, IDEMPOTENCY_KEY)
        if self._may_write:
            ordinals = range(1, record.link_ordinal + 1)
            links = [self._tokens.candidates(record.request_id, each)[0] for each in ordinals]
            rebuilt = await self._store.rebuilding.rebuild(
                record,
                owner=await owner_in(run),
                idempotency_key=key if isinstance(key, str) else None,
                run_id=run_to_store(run, record.request_id),
                link_hashes=[token_hash(link) for link in links],
            )
        is_taken = rebuilt is Rebuilt.DOMAIN_TAKEN
        if is_taken:
            self._unclear.add(record.request_id)
        kind = Kind.STORE_BEHIND if known else Kind.NOT_STORED
        self._note(kind, record.request_id, _repair(rebuilt))
        if run.status in GONE and record.decision is None and not is_taken:
            stored = await self._store.comparison.find(record.request_id)
            if stored and not stored.status.is_final:
                await self._settle(Kind.TERMINATED, stored)

    async def _check_closing_emails(self, known: KnownRequest) -> None:
        """Send the closing emails of a workflow that was terminated before it could."""
        emails = await self._store.comparison.unsent_closing_emails(known.id)
        if not emails:
            return
        is_new = not self._may_write or await self._executions.start_emails(
            known.id, emails, known.account_domain
        )
        if is_new:  # otherwise they wait for the mail server
            self._note(Kind.EMAILS_UNSENT, known.id, Repair.EMAILS_STARTED)

    # ---- what is missing, and what is left to start --------------------------------------

    async def _repair_missing(self) -> None:
        limit = max(MAX_MISSING, self._open_requests // MAX_MISSING_SHARE)
        if len(self._missing) > limit and self._choice is Choice.WAIT:
            self._hold(f"{len(self._missing)} of {self._open_requests} open requests are missing.")
        if self._may_write:
            new = [known.id for known in self._missing if known.missing_since is None]
            await self._store.comparison.set_missing_since(new, self._now)
            await self._store.comparison.set_missing_since(self._found_again, None)
        for known in self._missing:
            since = known.missing_since or self._now
            if self._choice is Choice.RESTART:
                await self._restart(known)
            elif self._choice is Choice.WAIT and self._held:
                self._note(Kind.MISSING, known.id, Repair.HELD)
            elif self._choice is Choice.WAIT and since > self._now - SETTLE_MISSING_AFTER:
                self._note(Kind.MISSING, known.id, Repair.WAITS)
            else:
                await self._settle(Kind.MISSING, known)

    async def _restart(self, known: KnownRequest) -> None:
        lost = await self._store.restarts.find_lost(known.id) if self._may_write else None
        is_restarted = await self._executions.restart(lost) if lost else not self._may_write
        repair = Repair.RESTARTED if is_restarted else Repair.NOT_RESTARTED
        self._note(Kind.MISSING, known.id, repair)

    def _hold(self, reason: str) -> None:
        self._held = reason
        _log.error(
            "sweep: %s Requests that are missing in Temporal are not withdrawn. Check"
            " TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE, and whether Temporal was restored. Then run"
            " the command sweep with --restart-missing or --settle-missing.",
            reason,
        )

    async def _check_closings(self) -> None:
        async for request_id in self._executions.closings():
            known = await self._store.comparison.find(request_id)
            if known is None or known.status is not Status.ACTIVE or known.closed_at:
                continue
            closing = await self._executions.closing(request_id)
            if closing:
                self._note(Kind.ACCOUNT_OPEN, request_id, Repair.REBUILT)
                if self._may_write:
                    await self._store.requests.close_account(closing)

    async def _start_emails(self) -> None:
        """Start the workflows that tell customers of a withdrawal by the sweep."""
        for request in await self._store.comparison.emails_due():
            if request.id in self._unclear | self._erased:
                continue  # the withdrawal may be wrong
            if not self._is_old(request.requested_at):
                continue
            emails = await self._store.comparison.unsent_closing_emails(request.id)
            if emails and request.id not in self._settled:
                self._note(Kind.EMAILS_UNSENT, request.id, Repair.EMAILS_STARTED)
            if not self._may_write:
                continue
            if emails:
                await self._executions.start_emails(request.id, emails, request.account_domain)
            await self._store.comparison.set_emails_due(request.id, due=False)

    async def _hand_over_webhooks(self) -> None:
        """Let the workers start the workflows that should have sent webhooks long ago."""
        before = self._now - IGNORED_AGE
        for endpoint_id in await self._store.deliveries.overdue(before):
            self._note(Kind.WEBHOOKS_UNSENT, endpoint_id, Repair.HANDED_OVER)
            if self._may_write:
                await self._store.deliveries.hand_over_again(endpoint_id)


def _repair(rebuilt: Rebuilt) -> Repair:
    return Repair.DOMAIN_TAKEN if rebuilt is Rebuilt.DOMAIN_TAKEN else Repair.REBUILT
