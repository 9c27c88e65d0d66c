"""What Ada, who wants her data erased, did before: she was in every role."""

import asyncio
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from temporalio.testing import ActivityEnvironment

from activities.erasure import ErasureActivities
from smart_accounts.contract.actions import NewApprover
from smart_accounts.contract.identity import Identity
from smart_accounts.contract.messages import EmailKind, EmailState, SmartAccountRequest, Status
from smart_accounts.contract.names import REMAINING_EMAILS_TYPE, TASK_QUEUE, remaining_emails_id
from smart_accounts.contract.steps import Addressee, Bounce, Email, EmailOutcome, SendEmails
from smart_accounts.store.audit import Action, Actor, Origin, Role
from smart_accounts.store.drafts import Draft
from smart_accounts.store.records import ReturnedEmail
from smart_accounts.store.sessions import Partner, Session
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.histories import Histories
from smart_accounts.temporal.records import Started
from tests.support.service import Service

ISSUER = "https://login.example"
ADA = Partner(
    issuer=ISSUER, subject="subject-of-ada", email="ada@acme.example", name="Ada Byron", company="A"
)
PAT = Identity(ISSUER, "pat")
NOW = datetime.now(UTC)
ORIGIN = Origin(client_address="192.0.2.7", user_agent="Firefox")


class Story:
    """What happens before Ada asks for the erasure of her data."""

    def __init__(self, service: Service, store: AccountStore, example: dict[str, Any]) -> None:
        self.service, self.store, self.example = service, store, example
        self.client = service.requests()

    async def start(self, domain: str, owner: Identity = PAT, **changes: Any) -> Started:
        fields = {"account_domain": domain, "customer_email": f"cy@{domain}", **changes}
        request = SmartAccountRequest.model_validate(self.example | fields)
        started = await self.client.start(request, owner=owner)
        await self.service.wait_for(started, Status.PENDING, sent=2)
        return started

    async def makes_a_request(self) -> Started:
        requester = {"email": ADA.email, "name": ADA.name, "company": "Byron Ltd"}
        return await self.start("own.acme.example", owner=ADA.identity, requester=requester)

    async def is_replaced_as_approver(self) -> Started:
        """The request is still open. An operator has reset its workflow twice."""
        started = await self.start("replaced.acme.example", customer_email=ADA.email)
        new = NewApprover(customer_email="cy@replaced.acme.example")
        await self.client.replace_approver(started.workflow_id, new)
        await self.service.mail.wait_for("activation", new.customer_email)
        reset = ("reset", f"--workflow-id={started.workflow_id}", "--type=LastWorkflowTask")
        for _ in range(2):
            done = await self.service.server.cli("workflow", *reset, "--reason=a bad release")
            assert done.returncode == 0, done.stderr
        return started

    async def gets_access(self) -> Started:
        users = ["bo@x.example", ADA.email]
        started = await self.start("added.acme.example", user_emails=users)
        await self.client.accept(started.workflow_id, accepted_by="cy")
        await self.service.handle(started).result()
        return started

    async def approves(self) -> Started:
        started = await self.start("approved.acme.example", customer_email=ADA.email)
        await self.client.accept(started.workflow_id, accepted_by=ADA.email)
        await self.service.handle(started).result()
        return started

    async def declines(self) -> tuple[Started, Started]:
        """An email came back with a reply that names Ada. The last emails were sent late.

        Returns the request, and the next one for the same domain, which does not name her.
        """
        started = await self.start("declined.acme.example", customer_email="Ada+work@acme.example")
        email = Email(kind=EmailKind.REQUEST_RECEIVED, to=Addressee.REQUESTER)
        bounce = Bounce(email=email, answer=f"550 5.1.1 <{ADA.email}> is full")
        await self.client.report_bounce(
            started.workflow_id, run_id=started.request_id, bounce=bounce
        )
        returned = ReturnedEmail(
            workflow_id=started.workflow_id, request_id=started.request_id, email=email
        )
        outcome = EmailOutcome(state=EmailState.BOUNCED, at=NOW, answer=bounce.answer)
        await self.store.emails.mark_bounced(returned, outcome)
        await self.client.decline(started.workflow_id, reason=f"Ask {ADA.email} instead.")
        await self.service.handle(started).result()
        await self.service.temporal.execute_workflow(
            REMAINING_EMAILS_TYPE,
            SendEmails(request_id=started.request_id, emails=(email,)),
            id=remaining_emails_id(started.request_id),
            task_queue=TASK_QUEUE,
        )
        return started, await self.start("declined.acme.example")

    async def purges_ended_requests(self) -> None:
        """One request has ended, and another one still sends its last email."""
        requester = self.example["requester"] | {"email": "late@partner.example"}
        ended, late = await asyncio.gather(
            self.start("ended.acme.example"), self.start("late.acme.example", requester=requester)
        )
        self.service.mail.refusals["late@partner.example"] = "451 later"
        for started in (ended, late):
            await self.client.decline(started.workflow_id)
        await self.service.handle(ended).result()
        await self.service.wait_for(late, Status.DECLINED)
        histories = Histories(self.service.temporal)
        activities = ErasureActivities(self.store, histories, timedelta())
        await ActivityEnvironment().run(activities.purge_ended_requests)
        found = [await self.store.requests.find(each.request_id) for each in (ended, late)]
        assert [each and each.customer_email for each in found] == [
            "erased",
            "cy@late.acme.example",
        ]
        assert found[1]
        assert await histories.are_running(found[1])

    async def uses_the_pages(self, request_id: str) -> None:
        session = Session(
            id="s", partner=ADA, csrf="c", began_at=NOW, last_used_at=NOW, **vars(ORIGIN)
        )
        await self.store.sessions.begin(session, "", "sealed")
        await self.store.drafts.save(ADA, Draft(id="own", fields={"account_name": "x"}), NOW)
        other = replace(ADA, subject="pat", email="pat@partner.example")
        draft = Draft(id="other", fields={"user_emails": f"bo@x.example, {ADA.email}"})
        await self.store.drafts.save(other, draft, NOW)
        await self.store.partners.keep_company(ISSUER, ADA.subject, "Byron Ltd")
        await self.store.adoption.claim_address(ADA.email, ADA.identity, NOW)
        actor = Actor(role=Role.REQUESTER, email=ADA.email, name=ADA.name, identity=ADA.identity)
        await self.store.audit.record(Action.SEND, actor, ORIGIN, request_id)
