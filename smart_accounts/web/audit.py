"""Write the audit trail: what a person does on a page or through the API, and from where."""

import logging
from collections.abc import Awaitable
from datetime import UTC, datetime

from fastapi import Request

from smart_accounts.contract import actions
from smart_accounts.contract.actions import ActionResult
from smart_accounts.errors import NoResponse, Unavailable
from smart_accounts.store.audit import (
    MAX_ADDRESS,
    MAX_USER_AGENT,
    Action,
    Actor,
    Agreement,
    Origin,
    Role,
)
from smart_accounts.store.records import ActivationLink
from smart_accounts.store.sessions import Partner
from smart_accounts.store.store import AccountStore
from smart_accounts.text import printable

_log = logging.getLogger(__name__)


class Audit:
    """Records what is done with one HTTP request.

    Each method but ``of_action`` raises ``Unavailable`` if the database does not respond.
    """

    def __init__(self, store: AccountStore, request: Request) -> None:
        self._store = store
        client, agent = request.client, request.headers.get("user-agent")
        self._origin = Origin(
            client_address=printable(client.host[:MAX_ADDRESS]) if client else None,
            user_agent=printable(agent[:MAX_USER_AGENT]) if agent else None,
        )

    async def record(
        self,
        action: Action,
        partner: Partner,
        request_id: str,
        role: actions.Role = actions.Role.REQUESTER,
    ) -> None:
        """Record what a partner or an operator did."""
        await self._store.audit.record(action, _actor(partner, role), self._origin, request_id)

    async def of_action(
        self,
        action: Action,
        partner: Partner,
        request_id: str,
        role: actions.Role,
        call: Awaitable[ActionResult],
    ) -> ActionResult:
        """Do an action and record it, even if it got no response, because it may still be done.

        A repeat is not recorded, because it changed nothing. If the database is down, the event is
        lost, but the person does not read that the action failed, because it is done. The security
        log has the action.
        """
        try:
            result = await call
        except NoResponse:
            await self._record_if_possible(action, partner, request_id, role)
            raise
        if not result.is_repeat:
            await self._record_if_possible(action, partner, request_id, role)
        return result

    async def _record_if_possible(
        self, action: Action, partner: Partner, request_id: str, role: actions.Role
    ) -> None:
        try:
            await self.record(action, partner, request_id, role)
        except Unavailable:
            _log.exception(
                "The audit trail lacks the %s of request %s",
                action,
                request_id,
                extra={"request_id": request_id},
            )

    async def record_answer(
        self, action: Action, link: ActivationLink, agreed_text: str | None = None
    ) -> None:
        """Record a customer's answer. Only its link shows that the person is the customer."""
        actor = Actor(role=Role.CUSTOMER, email=link.request.customer_email)
        agreement = Agreement(link_ordinal=link.ordinal, text=agreed_text)
        await self._store.audit.record(action, actor, self._origin, link.request.id, agreement)

    async def adopt_requests(self, partner: Partner) -> None:
        """Make the partner the owner of requests that name their verified address only."""
        if partner.email_verified:
            await self._store.adoption.adopt(
                partner.identity,
                _actor(partner, actions.Role.REQUESTER),
                self._origin,
                datetime.now(UTC),
            )


def _actor(partner: Partner, role: actions.Role) -> Actor:
    return Actor(
        role=Role(role),
        email=partner.email,
        name=partner.name,
        identity=partner.identity,
    )
