"""A request against a model of what the product promises, with events in any order.

``ANY_ORDER_EXAMPLES=300`` makes a long run, and ``--full`` one of 12.
"""

import os
from collections.abc import Coroutine
from datetime import timedelta
from itertools import count
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from temporalio.client import WorkflowExecutionStatus
from temporalio.worker import Replayer, UnsandboxedWorkflowRunner

from smart_accounts.contract.field_errors import BadInput
from smart_accounts.contract.messages import EmailKind, Status
from smart_accounts.contract.steps import Addressee, Email
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.temporal.guard import GuardInterceptor, worker_data_converter
from tests.support.scenario import DAY, MINUTE, Run, Scenario
from tests.support.store import Query
from tests.support.web_settings import client_settings
from workflows.smart_account_request import SmartAccountRequestWorkflow

SHORT, FULL = 4, 12
EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", FULL))
ACCOUNTS = {Status.PENDING: "provisional", Status.ACTIVE: "active"}
ONLY_WHEN_ACTIVE = {EmailKind.ACTIVATED, EmailKind.WELCOME, EmailKind.ACCESS_GRANTED}
BAD_SIGNALS: list[tuple[str, list[Any]]] = [
    ("accepted", [3]),
    ("accepted", [{}, {}]),
    ("declined", [{"reason": "\u202e"}]),
    ("bounced", []),
    ("approved", [{}]),
]

_numbers = count(1)


class AnyOrder(RuleBasedStateMachine):
    def __init__(self, scenario: Scenario, query_store: Query, run: Run) -> None:
        super().__init__()
        self.scenario, self.query_store, self.run = scenario, query_store, run
        self.domain = f"any-{next(_numbers)}.example"
        self.ended: Status | None = None
        """The model: the first decision, which counts."""
        self.is_withdrawn = False
        """Whether the requester made that decision, and may repeat it."""
        self.links = [timedelta()]
        """When each link was issued, counted from the start. Only the last one works."""
        self.clock = timedelta()
        self.customer = f"ada@{self.domain}"
        self.run(self._begin())

    async def _begin(self) -> None:
        requester = {"email": f"pat@partner-{self.domain}", "name": "Pat", "company": "Partner"}
        await self.scenario.start(
            account_domain=self.domain, customer_email=self.customer, requester=requester
        )
        self.first = await self.scenario.until(Status.PENDING, sent=2)

    # ---- what happens ------------------------------------------------------------------

    @rule()
    def customer_accepts(self) -> None:
        self._signal(self.scenario.accept())
        self._decide(Status.ACTIVE)

    @rule()
    def customer_declines(self) -> None:
        self._signal(self.scenario.decline("No."))
        self._decide(Status.DECLINED)

    @rule()
    def operator_cancels(self) -> None:
        if self.ended is None:
            self._signal(self.scenario.handle.cancel())
            self._decide(Status.WITHDRAWN)

    @rule()
    def requester_withdraws(self) -> None:
        self.is_withdrawn = self.is_withdrawn or self.ended is None
        self._update(self.scenario.withdraw(), self.is_withdrawn)
        self._decide(Status.WITHDRAWN)

    @rule()
    def requester_resends(self) -> None:
        cooled_down = self.clock - self.links[-1] >= 5 * MINUTE
        allowed = self.ended is None and cooled_down and self._links_today() < 6
        self._update(self.scenario.resend(), allowed)
        if allowed:
            self.links.append(self.clock)

    @rule(name=st.sampled_from(["ada", "cy", "dee"]))
    def requester_replaces(self, name: str) -> None:
        address = f"{name}@{self.domain}"
        is_new = address != self.customer
        allowed = self.ended is None and (not is_new or self._links_today() < 6)
        self._update(self.scenario.replace_approver(address), allowed)
        if allowed and is_new:
            self.links.append(self.clock)
            self.customer = address

    @rule(message=st.sampled_from(BAD_SIGNALS))
    def client_sends_bad_signal(self, message: tuple[str, list[Any]]) -> None:
        name, args = message
        if self.ended is None:
            self.run(self.scenario.handle.signal(name, args=args))

    @rule(of_first_link=st.booleans())
    def activation_email_bounces(self, of_first_link: bool) -> None:
        ordinal = 1 if of_first_link else len(self.links)
        email = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=ordinal)
        self._signal(self.scenario.report_bounce(email, "550 unknown"))
        if ordinal == len(self.links):
            self._decide(Status.UNDELIVERABLE)

    @precondition(lambda self: self.ended is None)
    @rule(jump=st.sampled_from([MINUTE, 6 * MINUTE, DAY, 25 * DAY]))
    def time_passes(self, jump: timedelta) -> None:
        jump = min(jump, 90 * DAY - MINUTE - self.clock)  # never past the deadline
        if jump > timedelta():
            self.run(self.scenario.env.sleep(jump))
            self.clock += jump

    @precondition(lambda self: self.ended is None)
    @rule()
    def deadline_passes(self) -> None:
        self.run(self.scenario.sleep_until(self.first.deadline + timedelta(seconds=1)))
        self._decide(Status.LAPSED)

    # ---- what holds after each step ------------------------------------------------------

    @invariant()
    def all_agree(self) -> None:
        status = self.ended or Status.PENDING
        now = self.run(self.scenario.until(status))
        assert now.status == status, "the first decision counts"
        assert now.deadline == self.first.deadline
        assert (now.decided_at is None) is (self.ended is None)
        if self.ended is Status.LAPSED:
            assert now.decided_at
            assert now.decided_at >= now.deadline
        stored = self.run(self.scenario.stored())
        assert (stored.status, stored.customer_email) == (status, self.customer)
        assert (stored.decided_at, stored.link_ordinal) == (now.decided_at, len(self.links))
        assert self.run(self._account_state()) == ACCOUNTS.get(status, "closed")
        kinds = {email.kind for email in now.emails}
        assert self.ended is Status.ACTIVE or not kinds & ONLY_WHEN_ACTIVE
        if self.ended is None:
            self.run(self.scenario.until_all_sent())

    async def _account_state(self) -> str:
        rows = await self.query_store(f"SELECT state FROM accounts WHERE domain = '{self.domain}'")
        return str(rows[0]["state"])

    def teardown(self) -> None:
        if self.ended is None:
            self.deadline_passes()
        self.run(self.scenario.until_closed())
        self.all_agree()
        self.run(self._check_history())

    async def _check_history(self) -> None:
        described = await self.scenario.handle.describe()
        assert described.status == WorkflowExecutionStatus.COMPLETED
        history = await self.scenario.handle.fetch_history()
        replayer = Replayer(
            workflows=[SmartAccountRequestWorkflow],
            interceptors=[GuardInterceptor()],
            data_converter=worker_data_converter(client_settings()),
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        await replayer.replay_workflow(history)  # raises also if a task had failed
        decided_at = (await self.scenario.status()).decided_at
        assert decided_at
        emails = await self.scenario.store.emails.of_request(self.scenario.started.request_id)
        reminders = [status for email, status in emails if email.kind == EmailKind.REMINDER]
        assert all(status.at <= decided_at for status in reminders), "no reminder after a decision"

    # ---- how a step is done --------------------------------------------------------------

    def _decide(self, status: Status) -> None:
        self.ended = self.ended or status

    def _links_today(self) -> int:
        return sum(at > self.clock - DAY for at in self.links)

    def _signal(self, signal: Coroutine[Any, Any, None]) -> None:
        try:
            self.run(signal)
        except NotFound:
            assert self.ended is not None

    def _update(self, update: Coroutine[Any, Any, Any], allowed: bool) -> None:
        try:
            self.run(update)
        except (Rejected, BadInput):
            assert not allowed
        else:
            assert allowed


@pytest.mark.timeout(max(240, 8 * EXAMPLES))
def test_any_order(
    scenario_with_worker: Scenario, query_store: Query, run: Run, full: bool
) -> None:
    def machine() -> AnyOrder:
        return AnyOrder(scenario_with_worker, query_store, run)

    run_state_machine_as_test(
        machine,  # type: ignore[arg-type]  # a function will do as well as a class
        settings=settings(
            max_examples=SHORT if EXAMPLES == FULL and not full else EXAMPLES,
            stateful_step_count=10,
            derandomize=EXAMPLES == FULL,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
