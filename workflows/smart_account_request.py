"""One Smart Account request, from the partner's wish to the customer's answer or its lapse."""

import asyncio
import contextlib
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from temporalio import workflow
from temporalio.common import RetryPolicy, SearchAttributeKey
from temporalio.exceptions import ActivityError, is_cancelled_exception

with workflow.unsafe.imports_passed_through():
    from activities.accounts import AccountActivities
    from activities.emails import EmailActivities
    from smart_accounts.messages import (
        DEADLINE_ATTRIBUTE,
        DOMAIN_ATTRIBUTE,
        STATUS_ATTRIBUTE,
        WORKFLOW_TYPE,
        Acceptance,
        Addressee,
        Decision,
        Email,
        EmailKind,
        EmailOutcome,
        EmailState,
        EmailStatus,
        FieldError,
        OpenRequest,
        RecordDecision,
        Refusal,
        RequestResult,
        RequestStatus,
        SendEmails,
        SmartAccountRequest,
        Status,
        utc,
        workflow_id,
    )
    from smart_accounts.temporal import invalid_request

MAIL_GIVES_UP_AFTER = timedelta(days=5)  # as long as mail servers queue (RFC 5321, 4.5.4.1)
FIRST_MAIL_RETRY = timedelta(seconds=1)
LONGEST_MAIL_PAUSE = timedelta(minutes=10)

DATABASE = workflow.LocalActivityConfig(
    start_to_close_timeout=timedelta(seconds=30),
    # Longer pauses become timers: a workflow task kept open grows the history every few seconds.
    local_retry_threshold=timedelta(seconds=5),
    retry_policy=RetryPolicy(
        initial_interval=timedelta(milliseconds=200), maximum_interval=timedelta(seconds=30)
    ),
)
MAIL = workflow.ActivityConfig(
    schedule_to_close_timeout=MAIL_GIVES_UP_AFTER,
    start_to_close_timeout=timedelta(minutes=30),  # dozens of mails, 10 minutes for a slow one
    heartbeat_timeout=timedelta(seconds=10),
    retry_policy=RetryPolicy(
        initial_interval=FIRST_MAIL_RETRY, maximum_interval=LONGEST_MAIL_PAUSE
    ),
    # A mail in flight is finished and counted, not torn.
    cancellation_type=workflow.ActivityCancellationType.WAIT_CANCELLATION_COMPLETED,
)

STATUS = SearchAttributeKey.for_keyword(STATUS_ATTRIBUTE)
DOMAIN = SearchAttributeKey.for_keyword(DOMAIN_ATTRIBUTE)
DEADLINE = SearchAttributeKey.for_datetime(DEADLINE_ATTRIBUTE)

CLOSING_MAILS = {
    Status.ACTIVE: (
        Email(kind=EmailKind.ACTIVATED, to=Addressee.REQUESTER),
        Email(kind=EmailKind.WELCOME, to=Addressee.CUSTOMER),
    ),
    Status.DECLINED: (Email(kind=EmailKind.DECLINED, to=Addressee.REQUESTER),),
    Status.WITHDRAWN: (Email(kind=EmailKind.WITHDRAWN, to=Addressee.CUSTOMER),),
    Status.LAPSED: (
        Email(kind=EmailKind.LAPSED, to=Addressee.CUSTOMER),
        Email(kind=EmailKind.LAPSED, to=Addressee.REQUESTER),
    ),
}


@workflow.defn(name=WORKFLOW_TYPE)
class SmartAccountRequestWorkflow:
    def __init__(self) -> None:
        self._status = Status.REQUESTED
        self._decision: Decision | None = None
        self._emails: dict[Email, EmailStatus] = {}
        self._needs_attention: tuple[str, ...] = ()

    @workflow.run
    async def run(self, request: SmartAccountRequest) -> RequestResult:
        story = asyncio.create_task(self._story(request))
        while True:
            try:
                return await asyncio.shield(story)
            except asyncio.CancelledError:
                if story.done():
                    raise
                # Cancelling is a decision like the others: it tears nothing that is under way.
                self._decide(Status.WITHDRAWN, by="operator", reason="Cancelled by the operator.")

    async def _story(self, request: SmartAccountRequest) -> RequestResult:
        self._take_up(request)
        refused = await self._check_and_open_provisional_account()
        if refused:
            return self._end(refused)
        opening_mails = self._mail_customer_and_requester()
        decision = await self._customer_decides_or_deadline_passes()
        opening_mails.cancel()  # what they say is no longer true
        if decision.status == Status.ACTIVE:
            await self._activate_account_and_give_access(decision)
        else:
            await self._close_provisional_account(decision)
        result = self._end(decision)
        await self._tell_everyone(decision)
        await workflow.wait([opening_mails])
        return result

    @workflow.signal
    def accepted(self, acceptance: Acceptance | None = None) -> None:
        """The customer accepts; the address is recorded, nothing more."""
        by = acceptance.accepted_by if acceptance else None
        self._decide(Status.ACTIVE, by=by or "customer")

    @workflow.signal
    def declined(self, refusal: Refusal | None = None) -> None:
        """The customer declines."""
        self._decide(Status.DECLINED, by="customer", reason=refusal.reason if refusal else None)

    @workflow.query
    def status(self) -> RequestStatus:
        decision = self._decision
        return RequestStatus(
            status=self._status,
            account_name=self._request.account_name,
            account_domain=self._request.account_domain,
            deadline=self._deadline,
            requested_at=self._requested_at,
            emails=tuple(self._emails.values()),
            needs_attention=self._needs_attention,
            reason=decision.reason if decision else None,
            decided_by=decision.by if decision else None,
            decided_at=decision.at if decision else None,
        )

    def _take_up(self, request: SmartAccountRequest) -> None:
        info = workflow.info()
        if info.workflow_id != workflow_id(request.account_domain):
            message = f"must be {workflow_id(request.account_domain)} for this account domain"
            raise invalid_request([FieldError(field="workflow id", message=message)])
        self._request = request
        self._request_id = info.first_execution_run_id
        self._requested_at = info.workflow_start_time
        self._deadline = self._requested_at + request.acceptance_window
        if (
            info.typed_search_attributes.get(STATUS) is None
        ):  # our own clients give them at the start
            workflow.upsert_search_attributes(
                [
                    STATUS.value_set(Status.PENDING),
                    DOMAIN.value_set(request.account_domain),
                    DEADLINE.value_set(self._deadline),
                ]
            )

    async def _check_and_open_provisional_account(self) -> Decision | None:
        opened = await workflow.execute_local_activity_method(
            AccountActivities.open_request,
            OpenRequest(
                request_id=self._request_id,
                request=self._request,
                requested_at=self._requested_at,
                deadline=self._deadline,
            ),
            **(DATABASE | {"summary": "System checks, provisional account"}),
        )
        self._needs_attention = opened.needs_attention
        if opened.refused:
            self._decision = Decision(
                status=Status.REJECTED, at=workflow.now(), reason=opened.refused
            )
            return self._decision
        self._status = Status.PENDING
        self._describe(f"pending, waits for the customer's answer until {utc(self._deadline)}")
        return None

    def _mail_customer_and_requester(self) -> asyncio.Task[None]:
        return asyncio.create_task(
            self._send(
                Email(kind=EmailKind.ACTIVATION, to=Addressee.CUSTOMER),
                Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER),
            )
        )

    async def _customer_decides_or_deadline_passes(self) -> Decision:
        with contextlib.suppress(TimeoutError):
            await workflow.wait_condition(
                lambda: self._decision is not None,
                timeout=self._deadline - workflow.now(),
                timeout_summary=f"Deadline {utc(self._deadline)}",
            )
        # A decision that came in together with the expired timer wins: Temporal had it while
        # the request was open.
        return self._decide(Status.LAPSED)

    async def _activate_account_and_give_access(self, decision: Decision) -> None:
        self._status = Status.ACTIVATING
        await workflow.execute_local_activity_method(
            AccountActivities.activate_account,
            RecordDecision(request_id=self._request_id, decision=decision),
            **(DATABASE | {"summary": "Activate the account, give access"}),
        )

    async def _close_provisional_account(self, decision: Decision) -> None:
        await workflow.execute_local_activity_method(
            AccountActivities.close_request,
            RecordDecision(request_id=self._request_id, decision=decision),
            **(DATABASE | {"summary": f"Record the end: {decision.status}"}),
        )

    async def _tell_everyone(self, decision: Decision) -> None:
        emails = CLOSING_MAILS[decision.status]
        if decision.status == Status.ACTIVE:
            users = range(1, len(self._request.added_users) + 1)
            emails += tuple(
                Email(kind=EmailKind.ACCESS_GRANTED, to=Addressee.ADDED_USER, number=number)
                for number in users
            )
        await self._send(*emails)

    def _decide(
        self, status: Status, *, by: str | None = None, reason: str | None = None
    ) -> Decision:
        """The first decision wins; answers the one that counts."""
        if self._decision is None:
            self._decision = Decision(status=status, at=workflow.now(), by=by, reason=reason)
        return self._decision

    def _end(self, decision: Decision) -> RequestResult:
        self._status = decision.status
        workflow.upsert_search_attributes([STATUS.value_set(decision.status)])
        self._describe(f"{decision.status} since {utc(decision.at)}")
        return RequestResult(status=decision.status, reason=decision.reason)

    def _describe(self, state: str) -> None:
        """For the operator in the Web UI, without personal data."""
        attention = "".join(f"\n\nNeeds attention: {each}" for each in self._needs_attention)
        workflow.set_current_details(
            f"Smart Account for **{self._request.account_domain}**: {state}.{attention}"
        )

    async def _send(self, *emails: Email) -> None:
        """Send one occasion's mails; one that is refused for now holds back no other."""
        waiting = emails
        self._note(waiting, EmailState.QUEUED)
        try:
            while waiting:
                outcomes = await self._try_to_send(waiting)
                for email, outcome in zip(waiting, outcomes, strict=True):
                    self._note([email], outcome.state, outcome.at)
                waiting = tuple(
                    email
                    for email, outcome in zip(waiting, outcomes, strict=True)
                    if outcome.state == EmailState.QUEUED
                )
                if waiting:
                    await workflow.sleep(FIRST_MAIL_RETRY)
        except asyncio.CancelledError:
            self._note(waiting, EmailState.DROPPED)

    async def _try_to_send(self, emails: tuple[Email, ...]) -> Sequence[EmailOutcome]:
        try:
            return await workflow.execute_activity_method(
                EmailActivities.send_emails,
                SendEmails(request_id=self._request_id, emails=emails),
                **(
                    MAIL
                    | {
                        "summary": "Mail: "
                        + ", ".join(dict.fromkeys(email.kind for email in emails))
                    }
                ),
            )
        except ActivityError as error:
            if is_cancelled_exception(error):
                raise asyncio.CancelledError from None
            return [EmailOutcome(state=EmailState.FAILED, at=workflow.now())] * len(emails)

    def _note(self, emails: Iterable[Email], state: EmailState, at: datetime | None = None) -> None:
        for email in emails:
            if state == EmailState.DROPPED:
                self._emails.pop(email, None)
            else:
                self._emails[email] = EmailStatus(
                    kind=email.kind,
                    recipient=self._request.address_of(email),
                    state=state,
                    at=at or workflow.now(),
                )
