"""A request against a model of what the product promises: whatever happens, in whatever order.

``ANY_ORDER_EXAMPLES=300`` makes a long run of it.
"""

import asyncio
import os
from collections.abc import AsyncIterator, Callable, Coroutine
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
from smart_accounts.contract.messages import (
    Addressee,
    Bounce,
    Email,
    EmailKind,
    NewApprover,
    Status,
    Withdrawal,
)
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.temporal.guard import GuardInterceptor, worker_data_converter
from workflows.smart_account_request import SmartAccountRequestWorkflow

EXAMPLES = int(os.environ.get("ANY_ORDER_EXAMPLES", "20"))
MINUTE, DAY = timedelta(minutes=1), timedelta(days=1)
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
    def __init__(self, story: Any, run: Callable[[Coroutine[Any, Any, Any]], Any]) -> None:
        super().__init__()
        self.story, self.run = story, run
        self.domain = f"any-{next(_numbers)}.example"
        self.ended: Status | None = None
        """The model: the first decision, which counts."""
        self.links = [timedelta()]
        """When each link was issued, since the start; the last one is in force."""
        self.clock = timedelta()
        self.customer = f"ada@{self.domain}"
        self.run(self._begin())

    async def _begin(self) -> None:
        requester = {"email": f"pat@partner-{self.domain}", "name": "Pat", "company": "Partner"}
        await self.story.start(
            account_domain=self.domain, customer_email=self.customer, requester=requester
        )
        self.first = await self.story.until(Status.PENDING, sent=2)

    # ---- what happens ------------------------------------------------------------------

    @rule()
    def customer_accepts(self) -> None:
        self._tell(self.story.client.accept(self._id))
        self._decide(Status.ACTIVE)

    @rule()
    def customer_declines(self) -> None:
        self._tell(self.story.client.decline(self._id, reason="No."))
        self._decide(Status.DECLINED)

    @rule()
    def operator_cancels(self) -> None:
        if self.ended is None:
            self._tell(self.story.handle.cancel())
            self._decide(Status.WITHDRAWN)

    @rule()
    def requester_withdraws(self) -> None:
        self._act(self.story.client.withdraw(self._id, Withdrawal()), self.ended is None)
        self._decide(Status.WITHDRAWN)

    @rule()
    def requester_resends(self) -> None:
        rested = self.clock - self.links[-1] >= 5 * MINUTE
        may = self.ended is None and rested and self._links_today() < 6
        self._act(self.story.client.resend(self._id), may)
        if may:
            self.links.append(self.clock)

    @rule(name=st.sampled_from(["ada", "cy", "dee"]))
    def requester_replaces(self, name: str) -> None:
        address = f"{name}@{self.domain}"
        may = self.ended is None and address != self.customer and self._links_today() < 6
        new = NewApprover(customer_email=address)
        self._act(self.story.client.replace_approver(self._id, new), may)
        if may:
            self.links.append(self.clock)
            self.customer = address

    @rule(message=st.sampled_from(BAD_SIGNALS))
    def somebody_sends_nonsense(self, message: tuple[str, list[Any]]) -> None:
        name, args = message
        if self.ended is None:
            self.run(self.story.handle.signal(name, args=args))

    @rule(of_a_dead_link=st.booleans())
    def activation_mail_comes_back(self, of_a_dead_link: bool) -> None:
        ordinal = 1 if of_a_dead_link else len(self.links)
        mail = Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER, number=ordinal)
        run_id = self.story.started.request_id
        bounce = Bounce(email=mail, answer="550 unknown")
        self._tell(self.story.client.report_bounce(self._id, run_id=run_id, bounce=bounce))
        if ordinal == len(self.links):
            self._decide(Status.UNDELIVERABLE)

    @precondition(lambda self: self.ended is None)
    @rule(jump=st.sampled_from([MINUTE, 6 * MINUTE, DAY, 25 * DAY]))
    def time_passes(self, jump: timedelta) -> None:
        jump = min(jump, 90 * DAY - MINUTE - self.clock)  # never past the deadline by itself
        if jump > timedelta():
            self.run(self.story.env.sleep(jump))
            self.clock += jump

    @precondition(lambda self: self.ended is None)
    @rule()
    def deadline_passes(self) -> None:
        self.run(self.story.sleep_until(self.first.deadline + timedelta(seconds=1)))
        self._decide(Status.LAPSED)

    # ---- what holds after each step ------------------------------------------------------

    @invariant()
    def all_agree(self) -> None:
        status = self.ended or Status.PENDING
        now = self.run(self.story.until(status))
        assert now.status == status, "the first decision wins, and stays"
        assert now.deadline == self.first.deadline
        assert (now.decided_at is None) is (self.ended is None)
        if self.ended is Status.LAPSED:
            assert now.decided_at >= now.deadline
        stored = self.run(self.story.store.find_request(self.story.started.request_id))
        assert (stored.status, stored.customer_email) == (status, self.customer)
        assert (stored.decided_at, stored.link_ordinal) == (now.decided_at, len(self.links))
        account = self.run(self.story.account_state(self.domain))
        assert account == ACCOUNTS.get(status, "closed")
        kinds = {mail.kind for mail in now.emails}
        assert self.ended is Status.ACTIVE or not kinds & ONLY_WHEN_ACTIVE

    def teardown(self) -> None:
        if self.ended is None:
            self.deadline_passes()
        self.run(self.story.until_closed())
        self.all_agree()
        self.run(self._look_back())

    async def _look_back(self) -> None:
        described = await self.story.handle.describe()
        assert described.status == WorkflowExecutionStatus.COMPLETED
        history = await self.story.handle.fetch_history()
        replayer = Replayer(
            workflows=[SmartAccountRequestWorkflow],
            interceptors=[GuardInterceptor()],
            data_converter=worker_data_converter,
            workflow_runner=UnsandboxedWorkflowRunner(),
        )
        await replayer.replay_workflow(history)  # raises where a task had failed, too
        decided = (await self.story.status()).decided_at
        emails = await self.story.store.emails.of_request(self.story.started.request_id)
        late = [mail for email, mail in emails if email.kind == EmailKind.REMINDER]
        assert all(mail.at <= decided for mail in late), "no reminder after a decision"

    # ---- how a step is done --------------------------------------------------------------

    @property
    def _id(self) -> str:
        return str(self.story.started.workflow_id)

    def _decide(self, status: Status) -> None:
        self.ended = self.ended or status

    def _links_today(self) -> int:
        return sum(at > self.clock - DAY for at in self.links)

    def _tell(self, message: Coroutine[Any, Any, Any]) -> None:
        try:
            self.run(message)
        except NotFound:
            assert self.ended is not None

    def _act(self, action: Coroutine[Any, Any, Any], may: bool) -> None:
        try:
            self.run(action)
        except (Rejected, BadInput):
            assert not may
        else:
            assert may


@pytest.fixture
async def run() -> Callable[[Coroutine[Any, Any, Any]], Any]:
    """Runs a coroutine on the fixtures' loop, which stands still in a test that is no coroutine."""
    return asyncio.get_running_loop().run_until_complete


@pytest.fixture
async def living_story(story: Any, ask: Any) -> AsyncIterator[Any]:
    async def account_state(domain: str) -> str:
        rows = await ask(f"SELECT state FROM accounts WHERE domain = '{domain}'")
        return str(rows[0]["state"])

    story.account_state = account_state
    async with story.worker():
        yield story


@pytest.mark.timeout(max(240, 8 * EXAMPLES))
def test_any_order(living_story: Any, run: Any) -> None:
    run_state_machine_as_test(
        lambda: AnyOrder(living_story, run),  # type: ignore[arg-type] # any callable, it says
        settings=settings(
            max_examples=EXAMPLES,
            stateful_step_count=10,
            deadline=None,
            derandomize=EXAMPLES == 20,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
