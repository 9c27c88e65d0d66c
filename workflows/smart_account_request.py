"""The life of a Smart Account request, from the partner's request to its end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from datetime import datetime
from functools import partial

from temporalio import workflow
from temporalio.exceptions import FailureError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.actions import (
        ActionMessage,
        ActionResult,
        NewApprover,
        Resend,
        Review,
        ReviewDecision,
        Role,
        Withdrawal,
    )
    from smart_accounts.contract.closing_emails import closing_emails
    from smart_accounts.contract.messages import (
        REVIEW_TIME,
        Acceptance,
        Decline,
        RequestResult,
        RequestStatus,
        SmartAccountRequest,
        Status,
    )
    from smart_accounts.contract.names import LINK, WORKFLOW_TYPE
    from smart_accounts.contract.steps import (
        Bounce,
        Decision,
        Email,
        IssueLink,
        OpenRequest,
        RecordDecision,
        RequestRecord,
        Restarted,
        SendEmails,
    )
    from smart_accounts.temporal.guard import invalid_request
    from smart_accounts.temporal.metrics import TIME_TO_DECISION
    from smart_accounts.text import utc
    from workflows import account_steps, search_attributes
    from workflows.current_details import current_details, next_step
    from workflows.emails import (
        activation_email,
        emails_after_restart,
        opening_emails,
        reminders,
        request_received,
    )
    from workflows.input_checks import check_workflow_id, memo_fields, with_approver
    from workflows.links import Links, action_refused
    from workflows.mailing import HAND_OVER_AFTER, Mailing
    from workflows.remaining_emails import hand_over
    from workflows.review import (
        IN_REVIEW,
        NOT_REVIEWED,
        check_same_decision,
        tell_operators,
    )


# Temporal accepts at most 2000 updates of a run. Some must be left for a review and a withdrawal.
MAX_REPEATS = 100
MAX_REFUSALS = 100  # of new links, after Temporal accepted the update
MAX_LINKS = 1000
NO_MORE_LINKS = (
    "The request had too many changes and gets no more activation emails. To change it, withdraw it"
    " and make a new one."
)


EARLY_ANSWER_WINS = "early-answer-wins"  # a patch


@workflow.defn(name=WORKFLOW_TYPE)
class SmartAccountRequestWorkflow:
    def __init__(self) -> None:
        self._status = Status.REQUESTED
        self._decision: Decision | None = None
        self._needs_attention: tuple[str, ...] = ()
        self._needs_review = False
        self._review: Review | None = None
        self._approved_at: datetime | None = None
        self._is_restarted = False
        self._retry_at: datetime | None = None
        self._links = Links()
        self._keeps_early_answers = False
        self._link_changes = asyncio.Lock()
        self._repeats = 0
        self._refusals = 0
        self._mailing = Mailing(lambda email: email.address_in(self._request))
        self._waiting_until: datetime | None = None
        self._after_end: str | None = "The closing emails are being sent."

    @workflow.run
    async def run(self, request: SmartAccountRequest) -> RequestResult:
        self._begin(request)
        lifecycle = asyncio.create_task(self._lifecycle())
        while True:
            try:
                return await asyncio.shield(lifecycle)
            except asyncio.CancelledError:
                if lifecycle.done():
                    raise
                # Cancelling in the Web UI is a withdrawal. It interrupts no step.
                if self._is_answer_coming() and workflow.patched(EARLY_ANSWER_WINS):
                    await workflow.wait_condition(
                        lambda: lifecycle.done() or not self._is_answer_coming()
                    )
                self._decide(
                    Status.WITHDRAWN, by=Role.OPERATOR, reason="Cancelled by the operator."
                )

    async def _lifecycle(self) -> RequestResult:
        decision = await self._check_and_open_provisional_account()
        sending = asyncio.create_task(self._send_emails_until_decided())
        if decision is None:  # otherwise it was rejected, and there is no account
            if self._status is Status.IN_REVIEW:
                await self._wait_for_review()
            decision = await self._wait_for_customer_or_deadline()
            decision = await self._activate_or_close_account(decision)
        result = self._end(decision)
        await self._send_closing_emails(decision)
        await sending
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    # ---- the customer ------------------------------------------------------------------

    @workflow.signal
    def accepted(self, acceptance: Acceptance | None = None) -> None:
        """Accept. The customer's address is only recorded."""
        given = acceptance or Acceptance()
        by = given.accepted_by or "customer"
        self._answer(given.link, partial(self._decide, Status.ACTIVE, by=by))

    @workflow.signal
    def declined(self, decline: Decline | None = None) -> None:
        given = decline or Decline()
        declined = partial(self._decide, Status.DECLINED, by="customer")
        self._answer(given.link, partial(declined, reason=given.reason, is_report=given.report))

    def _answer(self, link: int | None, take: Callable[[], object]) -> None:
        if link is not None and self._links.is_early(link) and self._is_link_coming():
            self._links.keep_early(link, take)
        elif self._status is not Status.IN_REVIEW and self._links.is_in_force(link):
            take()

    def _is_link_coming(self) -> bool:
        """Return whether a step that may put a link in force has not ended."""
        if self._status is Status.IN_REVIEW:
            return bool(self._review and self._review.decision is ReviewDecision.APPROVE)
        return self._status is Status.REQUESTED or self._link_changes.locked()

    def _is_answer_coming(self) -> bool:
        """Return whether the customer has answered first, through a link that is coming."""
        return self._links.has_early and self._is_link_coming()

    # ---- requester and operator: updates raise ActionRefused or InvalidRequest -----------

    @workflow.update
    async def resend_activation_email(self, resend: Resend | None = None) -> ActionResult:  # noqa: ARG002 - Temporal's signature
        """Send the customer a new link. The previous link no longer works."""
        async with self._link_change():
            self._check_resend()
            await self._issue_link(self._request)
        return self._done(ActionMessage.RESENT)

    @resend_activation_email.validator
    def _validate_resend(self, resend: Resend | None = None) -> None:  # noqa: ARG002 - Temporal's signature
        self._check_pending()
        self._check_links_left()
        self._check_resend()

    def _check_resend(self) -> None:
        self._check_pending()
        self._links.check_resend(workflow.now(), self._request.acceptance_window)

    @workflow.update
    async def replace_approver(self, new: NewApprover) -> ActionResult:
        """Ask another person instead, with a new link. The rules of the request apply."""
        async with self._link_change():
            self._check_replacement(new)
            if new.customer_email == self._request.customer_email:
                return self._repeat(ActionMessage.SAME_APPROVER)
            await self._issue_link(with_approver(self._request, new))
        return self._done(ActionMessage.APPROVER_REPLACED)

    @replace_approver.validator
    def _validate_replacement(self, new: NewApprover) -> None:
        self._check_pending()
        if new.customer_email != self._request.customer_email:
            self._check_links_left()
        self._check_replacement(new)

    def _check_replacement(self, new: NewApprover) -> None:
        self._check_pending()
        if new.customer_email == self._request.customer_email and self._repeats < MAX_REPEATS:
            return
        self._links.check_new_link(workflow.now())
        with_approver(self._request, new)

    @workflow.update
    async def withdraw(self, withdrawal: Withdrawal | None = None) -> ActionResult:
        """Withdraw the request. The customer is told, unless it is still in review."""
        if self._is_answer_coming() and workflow.patched(EARLY_ANSWER_WINS):
            await workflow.wait_condition(lambda: not self._is_answer_coming())
            self._check_withdrawal(withdrawal)
        if self._decision:
            return self._repeat(ActionMessage.WITHDRAWN_BEFORE)
        given = withdrawal or Withdrawal()
        self._decide(Status.WITHDRAWN, by=given.role, reason=given.reason)
        if self._links.newest:
            return self._done(ActionMessage.WITHDRAWN)
        return self._done(ActionMessage.WITHDRAWN_UNASKED)

    @withdraw.validator
    def _check_withdrawal(self, withdrawal: Withdrawal | None = None) -> None:
        given, decision = withdrawal or Withdrawal(), self._decision
        is_repeat = decision and given.repeats(decision.status, decision.by)
        if not is_repeat or self._repeats >= MAX_REPEATS:
            self._check_undecided()

    @workflow.update
    async def review(self, review: Review) -> ActionResult:
        """Approve or reject a request in review."""
        if self._review:
            self._repeats += 1
        self._review = self._review or review
        if review.decision is ReviewDecision.REJECT:
            self._decide(Status.REJECTED, by=Role.OPERATOR, reason=review.reason)
        await workflow.wait_condition(lambda: self._status is not Status.IN_REVIEW)
        if review.decision is ReviewDecision.APPROVE and not self._links.newest:
            self._check_undecided()  # it was withdrawn meanwhile
        return self._done(review.done_message)

    @review.validator
    def _check_review(self, review: Review) -> None:
        if self._review:
            check_same_decision(self._review, review)
            if self._repeats >= MAX_REPEATS:
                raise action_refused("The request was already reviewed.")
            return
        self._check_undecided()
        self._check_checked()
        if self._status is not Status.IN_REVIEW:
            raise action_refused("The request needs no review.")

    # ---- the mail server, and readers ----------------------------------------------------

    @workflow.signal
    def bounced(self, bounce: Bounce) -> None:
        self._mailing.record_bounce(bounce.email, bounce.answer)

    @workflow.query
    def status(self) -> RequestStatus:
        decision = self._decision
        return RequestStatus(
            status=self._status,
            account_name=self._request.account_name,
            account_domain=self._request.account_domain,
            deadline=self._deadline,
            requested_at=self._requested_at,
            emails=self._mailing.statuses(),
            needs_attention=self._needs_attention,
            reason=decision.reason if decision else None,
            decided_by=decision.by if decision else None,
            decided_at=decision.at if decision else None,
            retry_at=self._retry_at,
            next_step=next_step(
                self._status, decision, self._deadline, self._waiting_until, self._after_end
            ),
        )

    @workflow.query
    def record(self) -> RequestRecord:
        """Return what the store must have, for the sweep."""
        return RequestRecord(
            request_id=self._request_id,
            request=self._request,
            requested_at=self._requested_at,
            status=self._status,
            link_ordinal=self._links.newest,
            needs_attention=self._needs_attention,
            needs_review=self._needs_review,
            approved_at=self._approved_at,
            decision=self._decision if self._status.is_final else None,
            retry_at=self._retry_at,
        )

    # ---- the steps of the lifecycle ------------------------------------------------------

    def _begin(self, request: SmartAccountRequest) -> None:
        check_workflow_id(request)
        info = workflow.info()
        self._request = request
        self._request_id = info.first_execution_run_id
        self._requested_at = info.workflow_start_time
        self._deadline = self._requested_at + request.acceptance_window
        self._update_details()

    async def _check_and_open_provisional_account(self) -> Decision | None:
        """Return the decision if the request is rejected."""
        checked = await account_steps.check_and_open(
            OpenRequest(
                request_id=self._request_id,
                request=self._request,
                requested_at=self._requested_at,
                deadline=self._deadline,
                **memo_fields(),
            )
        )
        if checked.invalid:
            raise invalid_request(checked.invalid)
        self._keeps_early_answers = checked.keeps_early_answers
        if checked.restarted:
            self._continue(checked.restarted)
        search_attributes.add_missing(self._request.account_domain, self._deadline)
        self._needs_attention, self._retry_at = checked.needs_attention, checked.retry_at
        self._mailing.first_locally = checked.emails_first_locally
        if checked.refused:
            self._decision = Decision(
                status=Status.REJECTED, at=self._requested_at, reason=checked.refused
            )
            return self._decision
        if checked.in_review:
            self._enter_review()
        elif checked.restarted:
            self._status = Status.PENDING
            self._update_details()
        elif not self._is_withdrawn_before_the_checks():
            self._ask_customer()
        return None

    def _continue(self, lost: Restarted) -> None:
        """Continue a request whose workflow was lost or reset. It keeps id, deadline and links."""
        self._is_restarted = True
        self._request_id, self._requested_at = lost.request_id, lost.requested_at
        self._deadline = lost.requested_at + self._request.acceptance_window
        self._adopt_links(lost, lost.requested_at)
        if lost.approved_at:
            self._needs_review, self._approved_at = True, lost.approved_at
            self._review = Review(decision=ReviewDecision.APPROVE)
        self._take_early_answer()  # it may have a reason, which the store does not have
        if not self._keeps_early_answers:
            self._links.take_first_early()  # an earlier release took an answer through any link
        if lost.answer == "accepted":
            self._decide(Status.ACTIVE, by=self._request.customer_email)
        elif lost.answer == "declined":
            self._decide(Status.DECLINED, by="customer")

    def _adopt_links(self, known: Restarted, issued_at: datetime) -> None:
        """Count the links that the store has, and take over the approver."""
        if known.customer_email:  # histories of earlier releases have none
            approver = {"customer_email": known.customer_email}
            self._request = self._request.model_copy(update=approver)
        while self._links.newest < known.link_ordinal:
            self._links.add(issued_at)

    def _is_withdrawn_before_the_checks(self) -> bool:
        is_withdrawn = self._decision is not None and self._decision.status is Status.WITHDRAWN
        # Earlier releases told a customer of the withdrawal who had never been asked.
        return is_withdrawn and workflow.patched("withdrawn-before-the-checks")

    def _enter_review(self) -> None:
        self._status, self._needs_review = Status.IN_REVIEW, True
        if self._decision and self._decision.status is not Status.WITHDRAWN:
            self._decision = None  # an answer that came before the checks
        self._links.drop_early()
        search_attributes.set_status(Status.IN_REVIEW)
        self._update_details()

    async def _wait_for_review(self) -> None:
        """Wait until an operator approves the request, or until it ends."""
        telling = asyncio.create_task(tell_operators(self._request_id))
        until = min(self._requested_at + REVIEW_TIME, self._deadline)
        await self._wait(lambda: bool(self._decision or self._review), until, "Review")
        telling.cancel()
        await workflow.wait([telling])
        if self._review is None:
            self._decide(Status.LAPSED, reason=NOT_REVIEWED)
        if self._decision is None:
            self._approved_at = workflow.now()
            await account_steps.approve(self._request_id, self._approved_at)
        if self._decision is None:  # it may have been withdrawn meanwhile
            search_attributes.set_status(Status.PENDING)
            self._ask_customer()
            self._mailing.add(*opening_emails(was_in_review=True))

    def _ask_customer(self) -> None:
        self._status = Status.PENDING
        self._links.add(workflow.now())
        self._take_early_answer()
        self._update_details()

    def _take_early_answer(self) -> None:
        if self._keeps_early_answers:  # otherwise an earlier release has dropped it
            self._links.take_early()

    async def _send_emails_until_decided(self) -> None:
        self._mailing.add(*self._first_emails())
        await self._mailing.send_due_emails_until(
            lambda: self._decision is not None, self._request_id
        )

    def _first_emails(self) -> tuple[Email, ...]:
        if self._status is Status.IN_REVIEW:
            return (request_received(),)
        if not self._is_restarted:
            return opening_emails()
        overdue = [emails for moment, emails in self._reminders() if moment <= workflow.now()]
        return emails_after_restart(self._links.newest, overdue, was_in_review=self._needs_review)

    async def _wait_for_customer_or_deadline(self) -> Decision:
        due = self._reminders()
        if self._review or self._is_restarted:  # emails that were due before are skipped
            due = [(moment, emails) for moment, emails in due if moment > workflow.now()]
        for moment, emails in [*due, (self._deadline, ())]:
            await self._wait_for_decision(moment, "Reminder" if emails else "Deadline")
            if self._decision:
                break
            self._mailing.add(*emails)
        # This keeps a decision that arrived together with the expired timer, because Temporal
        # received it while the request was open.
        return self._decide(Status.LAPSED)

    def _reminders(self) -> list[tuple[datetime, tuple[Email, ...]]]:
        """Return the emails that remind of the request, and when each of them is due."""
        due = [(self._requested_at + offset, emails) for offset, emails in reminders(self._request)]
        since = self._approved_at if self._is_restarted else None
        return [(moment, emails) for moment, emails in due if since is None or moment > since]

    async def _wait_for_decision(self, until: datetime, timer: str) -> None:
        def is_over() -> bool:
            return self._decision is not None or self._undeliverable() is not None

        await self._wait(is_over, until, timer)
        if reply := self._undeliverable():
            self._decide(Status.UNDELIVERABLE, reason=reply)

    async def _wait(self, is_over: Callable[[], bool], until: datetime, timer: str) -> None:
        self._waiting_until = until
        self._update_details()
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                is_over,
                timeout=until - workflow.now(),
                timeout_summary=f"{timer} {utc(until)}",
            )

    def _undeliverable(self) -> str | None:
        """Return the mail server's reply if the newest activation email failed or bounced."""
        if self._keeps_early_answers and self._link_changes.locked():
            return None  # a newer email is on its way
        return self._mailing.failure(activation_email(self._links.newest))

    async def _activate_or_close_account(self, decision: Decision) -> Decision:
        """Record the decision in the store. Returns the decision that the store has.

        The two differ if a worker crashed after the commit and before the end of its task. The
        next worker decides again, and by then an acceptance may have arrived after the lapse.
        """
        recorded = RecordDecision(
            request_id=self._request_id,
            decision=decision,
            request=self._request,
            link_ordinal=self._links.newest,
        )
        async with self._link_changes:  # a change of the link that began earlier ends first
            if decision.status == Status.ACTIVE:
                self._status = Status.ACTIVATING
                self._update_details()
            stored = await account_steps.record_decision(recorded)
        self._decision = stored or decision  # the oldest histories hold no result here
        TIME_TO_DECISION.record(
            workflow.metric_meter(),
            self._decision.at - self._requested_at,
            status=self._decision.status,
        )
        return self._decision

    def _end(self, decision: Decision) -> RequestResult:
        self._status = decision.status
        search_attributes.set_status(decision.status)
        self._update_details()
        return RequestResult(
            status=decision.status, reason=decision.reason, retry_at=self._retry_at
        )

    async def _send_closing_emails(self, decision: Decision) -> None:
        emails = closing_emails(
            decision.status, self._request, customer_was_asked=self._links.newest > 0
        )
        if self._retry_at or not emails:  # a limit rejects without an email
            self._after_end = None
            self._update_details()
            return
        batch = SendEmails(
            request_id=self._request_id, emails=emails, until=workflow.now() + HAND_OVER_AFTER
        )
        unsent, self._after_end = await self._mailing.send(batch), None
        if unsent:
            child = await hand_over(self._request_id, unsent, self._request.account_domain)
            self._after_end = f"The workflow {child} sends the remaining emails."
        self._update_details()

    def _decide(
        self,
        status: Status,
        by: str | None = None,
        reason: str | None = None,
        *,
        is_report: bool = False,
    ) -> Decision:
        """Record a decision unless there is one. Returns the first decision, which counts."""
        if self._decision is None:
            self._decision = Decision(
                status=status, at=workflow.now(), by=by, reason=reason, is_report=is_report
            )
            self._update_details()
        return self._decision

    def _check_undecided(self) -> None:
        if self._decision:
            raise action_refused(f"Too late: the request is already {self._decision.status}.")

    def _check_pending(self) -> None:
        self._check_undecided()
        if self._status == Status.IN_REVIEW:
            raise action_refused(IN_REVIEW)
        self._check_checked()

    def _check_checked(self) -> None:
        if self._status == Status.REQUESTED:
            raise action_refused("The request is still being checked; try again in a moment.")

    def _check_links_left(self) -> None:
        # Only for validators, which a replay does not run. Older histories may exceed the limits.
        if self._refusals >= MAX_REFUSALS or self._links.newest >= MAX_LINKS:
            raise action_refused(NO_MORE_LINKS)

    @contextlib.asynccontextmanager
    async def _link_change(self) -> AsyncIterator[None]:
        """Make one change of the link at a time, and count those that are rejected."""
        async with self._link_changes:
            try:
                yield
            except FailureError:
                self._refusals += 1
                raise

    async def _issue_link(self, request: SmartAccountRequest) -> None:
        number, now = self._links.newest + 1, workflow.now()
        issued = await account_steps.issue_link(
            IssueLink(request_id=self._request_id, request=request, ordinal=number, at=now)
        )
        self._check_undecided()  # a decision keeps the approver who was asked
        if issued.refused:
            raise action_refused(issued.refused)
        self._needs_attention = issued.needs_attention
        if issued.restarted:
            self._adopt_links(issued.restarted, workflow.now())
            self._use_newest_link()
            raise action_refused("The request was reset. Look at it and try again.")
        self._request = request
        self._links.add(workflow.now())
        self._use_newest_link()

    def _use_newest_link(self) -> None:
        if workflow.patched("link-in-memo"):  # the sweep compares it with the store
            workflow.upsert_memo({LINK: self._links.newest})
        self._take_early_answer()
        self._update_details()
        self._mailing.add(activation_email(self._links.newest))

    def _done(self, message: str) -> ActionResult:
        status = self._decision.status if self._decision else self._status
        return ActionResult(status=status, message=message)

    def _repeat(self, message: ActionMessage) -> ActionResult:
        self._repeats += 1
        return self._done(message)

    def _update_details(self) -> None:
        if hasattr(self, "_request"):  # a signal can arrive before the workflow runs
            workflow.set_current_details(current_details(self.status()))
