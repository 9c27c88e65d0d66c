"""One Smart Account request, from the partner's wish to the customer's answer or its lapse."""

import asyncio
import contextlib
from datetime import datetime, timedelta

from pydantic import ValidationError
from temporalio import workflow
from temporalio.common import SearchAttributeKey
from temporalio.exceptions import WorkflowAlreadyStartedError

with workflow.unsafe.imports_passed_through():
    from smart_accounts.contract.field_errors import FieldError, field_errors
    from smart_accounts.contract.fields import without_lists
    from smart_accounts.contract.messages import (
        Acceptance,
        ActionResult,
        Bounce,
        Decline,
        Email,
        NewApprover,
        RequestResult,
        RequestStatus,
        SmartAccountRequest,
        Status,
        Withdrawal,
    )
    from smart_accounts.contract.names import (
        DEADLINE_ATTRIBUTE,
        DOMAIN_ATTRIBUTE,
        IDEMPOTENCY_KEY,
        MAX_KEY,
        STATUS_ATTRIBUTE,
        WORKFLOW_TYPE,
        workflow_id,
    )
    from smart_accounts.contract.steps import (
        Decision,
        IssueLink,
        OpenRequest,
        RecordDecision,
        SendEmails,
    )
    from smart_accounts.temporal.guard import invalid_request
    from smart_accounts.text import utc
    from workflows import account_steps
    from workflows.links import Links, action_refused
    from workflows.mailing import (
        Mailing,
        activation_email,
        closing_emails,
        merged,
        opening_emails,
        reminders,
    )
    from workflows.remaining_emails import RemainingEmailsWorkflow

# The last try of the run's own hour comes at most one pause between tries later.
CLOSING_EMAILS_IN_THE_RUN = timedelta(minutes=50)

STATUS = SearchAttributeKey.for_keyword(STATUS_ATTRIBUTE)
DOMAIN = SearchAttributeKey.for_keyword(DOMAIN_ATTRIBUTE)
DEADLINE = SearchAttributeKey.for_datetime(DEADLINE_ATTRIBUTE)


@workflow.defn(name=WORKFLOW_TYPE)
class SmartAccountRequestWorkflow:
    def __init__(self) -> None:
        self._status = Status.REQUESTED
        self._decision: Decision | None = None
        self._mailing = Mailing()
        self._due: tuple[Email, ...] = ()
        self._needs_attention: tuple[str, ...] = ()
        self._links = Links()
        self._link_changes = asyncio.Lock()
        self._next_occasion: datetime | None = None
        self._everyone_is_told = False
        self._left: tuple[Email, ...] = ()

    @workflow.run
    async def run(self, request: SmartAccountRequest) -> RequestResult:
        self._take_up(request)
        story = asyncio.create_task(self._story())
        while True:
            try:
                return await asyncio.shield(story)
            except asyncio.CancelledError:
                if story.done():
                    raise
                # Cancelling is a decision like the others: it tears nothing that is under way.
                self._decide(Status.WITHDRAWN, by="operator", reason="Cancelled by the operator.")

    async def _story(self) -> RequestResult:
        refused = await self._check_and_open_provisional_account()
        mails = asyncio.create_task(self._email_until_decided())
        decision = refused or await self._customer_decides_or_deadline_passes()
        decision = await self._activate_or_close_account(decision)
        result = self._end(decision)
        await self._tell_everyone(decision)
        await mails
        await workflow.wait_condition(workflow.all_handlers_finished)
        return result

    # ---- the customer ------------------------------------------------------------------

    @workflow.signal
    def accepted(self, acceptance: Acceptance | None = None) -> None:
        """The customer accepts; the address is recorded, nothing more."""
        by = acceptance.accepted_by if acceptance else None
        self._decide(Status.ACTIVE, by=by or "customer")

    @workflow.signal
    def declined(self, refusal: Decline | None = None) -> None:
        """The customer declines."""
        self._decide(Status.DECLINED, by="customer", reason=refusal.reason if refusal else None)

    # ---- the requester -----------------------------------------------------------------

    @workflow.update
    async def resend_activation_email(self) -> ActionResult:
        """A new link for the customer; the old one is dead.

        Raises:
            ApplicationError: of type ``ActionRefused``, in words for a person.
        """
        async with self._link_changes:
            self._check_resend()
            await self._issue_link(self._request)
        return self._done("A new activation email is on its way; the link before it is dead.")

    @resend_activation_email.validator
    def _check_resend(self) -> None:
        self._check_pending()
        self._links.check_same_person(workflow.now(), self._request.acceptance_window)

    @workflow.update
    async def replace_approver(self, new: NewApprover) -> ActionResult:
        """Another customer's address, under the rules of the request, with a new link.

        Raises:
            ApplicationError: of type ``ActionRefused`` or ``InvalidRequest``.
        """
        async with self._link_changes:
            self._check_replacement(new)
            await self._issue_link(self._with_approver(new))
        return self._done("The new approver is sent an activation email; the link before is dead.")

    @replace_approver.validator
    def _check_replacement(self, new: NewApprover) -> None:
        self._check_pending()
        self._links.check_another(workflow.now())
        self._with_approver(new)

    @workflow.update
    def withdraw(self, withdrawal: Withdrawal | None = None) -> ActionResult:
        """The requester takes the request back; the customer is told.

        Raises:
            ApplicationError: of type ``ActionRefused``, where another decision was made.
        """
        reason = withdrawal.reason if withdrawal else None
        self._decide(Status.WITHDRAWN, by="requester", reason=reason)
        return self._done("The request is withdrawn; the customer is told.")

    @withdraw.validator
    def _check_withdrawal(
        self,
        withdrawal: Withdrawal | None = None,  # noqa: ARG002 - Temporal's signature
    ) -> None:
        self._check_undecided()

    # ---- the mail server ---------------------------------------------------------------

    @workflow.signal
    def bounced(self, bounce: Bounce) -> None:
        """An email was taken and came back."""
        self._mailing.bounced(bounce.email, bounce.answer)

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
            next_step=self._next_step(),
        )

    # ---- the steps ---------------------------------------------------------------------

    def _take_up(self, request: SmartAccountRequest) -> None:
        info = workflow.info()
        if info.workflow_id != workflow_id(request.account_domain):
            message = f"must be {workflow_id(request.account_domain)} for this account domain"
            raise invalid_request([FieldError(field="workflow id", message=message)])
        self._request = request
        self._request_id = info.first_execution_run_id
        self._requested_at = info.workflow_start_time
        self._deadline = self._requested_at + request.acceptance_window
        self._describe()

    async def _check_and_open_provisional_account(self) -> Decision | None:
        opened = await account_steps.check_and_open(
            OpenRequest(
                request_id=self._request_id,
                request=self._request,
                requested_at=self._requested_at,
                deadline=self._deadline,
                idempotency_key=_idempotency_key(),
            )
        )
        if opened.invalid:
            raise invalid_request(opened.invalid)
        self._index()
        self._needs_attention = opened.needs_attention
        if opened.refused:
            self._decision = Decision(
                status=Status.REJECTED, at=self._requested_at, reason=opened.refused
            )
            return self._decision
        self._status = Status.PENDING
        self._links.issued(workflow.now())
        self._describe()
        return None

    def _index(self) -> None:
        given = workflow.info().typed_search_attributes
        if any(given.get(key) is None for key in (STATUS, DOMAIN, DEADLINE)):
            # A foreign start: our own clients give them.
            workflow.upsert_search_attributes(
                [
                    STATUS.value_set(Status.PENDING),
                    DOMAIN.value_set(self._request.account_domain),
                    DEADLINE.value_set(self._deadline),
                ]
            )

    async def _customer_decides_or_deadline_passes(self) -> Decision:
        ahead = [(self._requested_at + offset, mails) for offset, mails in reminders(self._request)]
        for moment, mails in [*ahead, (self._deadline, ())]:
            await self._answer_or(moment, "Reminder" if mails else "Deadline")
            if self._decision:
                break
            self._email_now(*mails)  # after an outage the latest takes the place of the others
        # A decision that came in together with the expired timer wins: Temporal had it while
        # the request was open.
        return self._decide(Status.LAPSED)

    async def _answer_or(self, moment: datetime, what: str) -> None:
        self._next_occasion = moment
        self._describe()
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._decision is not None or self._undeliverable() is not None,
                timeout=moment - workflow.now(),
                timeout_summary=f"{what} {utc(moment)}",
            )
        if answer := self._undeliverable():
            self._decide(Status.UNDELIVERABLE, reason=answer)

    def _undeliverable(self) -> str | None:
        """What the mail server said when it refused the email with the link in force for good."""
        return self._mailing.refusal(activation_email(self._links.in_force))

    async def _activate_or_close_account(self, decision: Decision) -> Decision:
        """Answers the decision that counts: the store's.

        It is another one if a worker died between the commit and the end of its task: the next
        one decides anew, and an acceptance may have come in after the lapse by then.
        """
        if decision.status == Status.REJECTED:
            return decision  # there is no account
        record = RecordDecision(
            request_id=self._request_id, decision=decision, request=self._request
        )
        async with self._link_changes:  # one that was begun before takes effect before
            if decision.status == Status.ACTIVE:
                self._status = Status.ACTIVATING
                stored = await account_steps.activate(record)
            else:
                stored = await account_steps.close(record)
        self._decision = stored or decision  # the first histories hold no answer of the store
        return self._decision

    def _decide(
        self, status: Status, *, by: str | None = None, reason: str | None = None
    ) -> Decision:
        """The first decision wins; answers the one that counts."""
        if self._decision is None:
            self._decision = Decision(status=status, at=workflow.now(), by=by, reason=reason)
            self._describe()
        return self._decision

    def _end(self, decision: Decision) -> RequestResult:
        self._status = decision.status
        workflow.upsert_search_attributes([STATUS.value_set(decision.status)])
        self._describe()
        return RequestResult(status=decision.status, reason=decision.reason)

    async def _tell_everyone(self, decision: Decision) -> None:
        occasion = SendEmails(
            request_id=self._request_id,
            emails=closing_emails(decision.status, self._request),
            until=workflow.now() + CLOSING_EMAILS_IN_THE_RUN,
        )
        self._left = await self._mailing.send(occasion, self._request)
        if self._left:
            with contextlib.suppress(WorkflowAlreadyStartedError):  # before the run was reset
                await workflow.start_child_workflow(
                    RemainingEmailsWorkflow.run,
                    SendEmails(request_id=self._request_id, emails=self._left),
                    id=self._remaining_emails_id(),
                    parent_close_policy=workflow.ParentClosePolicy.ABANDON,
                    static_summary=f"Remaining emails for {self._request.account_domain}",
                )
        self._everyone_is_told = True
        self._describe()

    async def _email_until_decided(self) -> None:
        """Send what is due beside the race; what waited from before goes on with what is new."""
        self._due = opening_emails()
        while self._decision is None:
            occasion = SendEmails(request_id=self._request_id, emails=self._due)
            self._due = ()
            sending = asyncio.create_task(
                self._mailing.send(occasion, self._request, self._is_overtaken)
            )
            await workflow.wait_condition(self._is_overtaken)
            sending.cancel()  # in flight or after a decision: what it says may be true no longer
            await workflow.wait([sending])
            self._due = merged((*sending.result(), *self._due))

    def _is_overtaken(self) -> bool:
        return self._decision is not None or bool(self._due)

    def _email_now(self, *emails: Email) -> None:
        self._due += emails

    # ---- the requester's actions -------------------------------------------------------

    def _check_undecided(self) -> None:
        if self._decision:
            raise action_refused(f"Too late: the request is {self._decision.status} already.")

    def _check_pending(self) -> None:
        self._check_undecided()
        if self._status == Status.REQUESTED:
            raise action_refused("The request is still being checked; try again in a moment.")

    def _with_approver(self, new: NewApprover) -> SmartAccountRequest:
        if new.customer_email == self._request.customer_email:
            raise action_refused("That is the approver's address already.")
        changed = self._request.model_dump() | new.model_dump()
        try:
            with without_lists():
                return SmartAccountRequest.model_validate(changed)
        except ValidationError as error:
            raise invalid_request(field_errors(error)) from None

    async def _issue_link(self, request: SmartAccountRequest) -> None:
        issued = await account_steps.issue_link(
            IssueLink(
                request_id=self._request_id,
                request=request,
                ordinal=self._links.in_force + 1,
                at=workflow.now(),
            )
        )
        self._check_undecided()  # who was asked when it was decided stays the approver
        if issued.refused:
            raise action_refused(issued.refused)
        self._request = request
        self._needs_attention = issued.needs_attention
        self._links.issued(workflow.now())
        self._describe()
        self._email_now(activation_email(self._links.in_force))

    def _done(self, message: str) -> ActionResult:
        status = self._decision.status if self._decision else self._status
        return ActionResult(status=status, message=message)

    # ---- for whoever looks -------------------------------------------------------------

    def _next_step(self) -> str | None:
        if self._decision and not self._status.is_final:
            return f"The decision is being recorded: {self._decision.status}."
        if self._status == Status.PENDING:
            step = f"Waits for the customer's answer until {utc(self._deadline)}."
            if self._next_occasion and self._next_occasion < self._deadline:
                step += f" Next reminder {utc(self._next_occasion)}."
            return step
        if self._status == Status.REQUESTED:
            return "The system checks are under way."
        if not self._everyone_is_told:
            return "The closing emails are being sent."
        if self._left:
            return f"Remaining emails go on in the workflow {self._remaining_emails_id()}."
        return None

    def _remaining_emails_id(self) -> str:
        return f"smart-account-mails-{self._request_id}"

    def _describe(self) -> None:
        """For the operator in the Web UI, without personal data."""
        if not hasattr(self, "_request"):
            return  # a decision that came before the first step
        decided = f" since {utc(self._decision.at)}" if self._decision else ""
        lines = [f"Smart Account for **{self._request.account_domain}**: {self._status}{decided}."]
        lines += [f"Needs attention: {each}" for each in self._needs_attention]
        if step := self._next_step():
            lines.insert(1, step)
        workflow.set_current_details("\n\n".join(lines))


def _idempotency_key() -> str | None:
    """Whoever starts a request writes its memo: what is no key of ours is none."""
    key = workflow.memo_value(IDEMPOTENCY_KEY, None)
    return key if isinstance(key, str) and key.isprintable() and len(key) <= MAX_KEY else None
