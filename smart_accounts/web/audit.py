"""Write the audit trail: what a person does on a page or through the API, and from where."""

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime

from fastapi import Request

from smart_accounts.contract import actions
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

    @asynccontextmanager
    async def of_action(
        self, action: Action, partner: Partner, request_id: str, role: actions.Role
    ) -> AsyncIterator[None]:
        """Record an action when the block ends, also if it got no response and may still be done.

        If the database is down at that moment, the event is lost, but the person does not read
        that the action failed, because it is done. The security log has the action.
        """
        try:
            yield
        except NoResponse:
            await self._record_if_possible(action, partner, request_id, role)
            raise
        await self._record_if_possible(action, partner, request_id, role)

    async def _record_if_possible(
        self, action: Action, partner: Partner, request_id: str, role: actions.Role
    ) -> None:
        try:
            await self.record(action, partner, request_id, role)
        except Unavailable:
            _log.exception("The audit trail lacks the %s of request %s", action, request_id)

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
