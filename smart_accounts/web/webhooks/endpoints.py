"""What a partner may do with webhook endpoints, on the pages and through the API."""

import json
import re
from collections.abc import Sequence
from contextlib import AbstractContextManager
from datetime import UTC, datetime, timedelta
from typing import Annotated
from uuid import UUID, uuid4, uuid5

from fastapi import HTTPException, Request
from pydantic import AfterValidator
from pydantic_core import PydanticCustomError

from smart_accounts.contract.field_errors import BadInput, FieldError
from smart_accounts.contract.fields import Description
from smart_accounts.contract.messages import Message
from smart_accounts.contract.webhooks import SUBSCRIBABLE, EndpointState, EventType
from smart_accounts.errors import NotFound, Rejected
from smart_accounts.store.sessions import Partner
from smart_accounts.store.webhook_records import Delivery, Endpoint, NewEndpoint
from smart_accounts.store.webhooks import NO_SUCH_ENDPOINT
from smart_accounts.web.dependencies import Services
from smart_accounts.web.security_log import Event, Outcome
from smart_accounts.webhooks.addresses import MAX_URL, BadUrl, address_rules, check_url
from smart_accounts.webhooks.signing import new_secret, seal

OVERLAP = timedelta(hours=24)
"""How long the previous secret works after a new one was made."""

_FORMS = UUID("1e1f7be0-5f0c-4d4c-9c7e-6a1d0c1b8f5e")
_ID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


def _known_types(types: Sequence[EventType]) -> tuple[EventType, ...]:
    """Return the types in their usual order, each once."""
    if EventType.PING in types:
        raise PydanticCustomError("ping", "must not have ping, which every endpoint receives")
    if not types:
        raise PydanticCustomError("no_events", "must have at least one entry")
    return tuple(each for each in SUBSCRIBABLE if each in types)


EventTypes = Annotated[tuple[EventType, ...], AfterValidator(_known_types)]


class EndpointFields(Message):
    """The fields of an endpoint that its owner may change. ``url`` is checked when it is saved."""

    url: str
    description: Description = ""
    event_types: EventTypes = SUBSCRIBABLE


class Endpoints:
    """The endpoints that a partner may see and change. Each action has a line in the security log.

    A partner sees their own endpoints. Endpoints for the requests of all partners belong to all
    operators together. Nobody else sees them, not even a person who was an operator before.
    """

    def __init__(self, web: Services, partner: Partner, http_request: Request) -> None:
        self._web = web
        self._stored = web.store.webhooks
        self._partner = partner
        self._http_request = http_request

    async def list(self) -> Sequence[Endpoint]:
        found = await self._stored.list(
            self._partner.identity, with_all_requests=self._partner.is_operator
        )
        return [endpoint for endpoint in found if self._may_see(endpoint)]

    async def find(self, endpoint_id: str) -> Endpoint:
        """Return an endpoint.

        Raises:
            NotFound: There is no such endpoint, or the partner may not see it.
        """
        found = await self._stored.find(endpoint_id) if _ID.fullmatch(endpoint_id) else None
        if found is None or not self._may_see(found):
            raise NotFound(NO_SUCH_ENDPOINT)
        return found

    def _may_see(self, endpoint: Endpoint) -> bool:
        if endpoint.for_all_requests:
            return self._partner.is_operator
        return endpoint.owner == self._partner.identity

    async def register(
        self, fields: EndpointFields, *, for_all_requests: bool, form_id: str | None = None
    ) -> tuple[Endpoint, str | None]:
        """Register an endpoint. Return it with its secret, which is never shown again.

        A form that is sent again, with the same ``form_id``, registers nothing. Then the secret is
        None.

        Raises:
            BadInput: Webhooks may not be sent to this URL.
            Rejected: The partner has too many endpoints.
        """
        self._check_role(for_all_requests=for_all_requests)
        secret, id_ = new_secret(), self._id_of(form_id) if form_id else str(uuid4())
        with self._logged(Event.WEBHOOK_REGISTER, id_):
            new = NewEndpoint(
                id=id_,
                url=await self.checked_url(fields.url, for_all_requests=for_all_requests),
                description=fields.description,
                event_types=fields.event_types,
                for_all_requests=for_all_requests,
            )
            sealed = self._sealed(secret)
            endpoint = await self._stored.register(new, self._partner, sealed, _now())
        return endpoint, secret if endpoint.sealed_secret == sealed else None

    async def change(self, endpoint: Endpoint, fields: EndpointFields) -> None:
        """Change what the fields say. An unchanged URL is not looked up again.

        Raises:
            BadInput: Webhooks may not be sent to this URL.
        """
        with self._logged(Event.WEBHOOK_CHANGE, endpoint.id):
            url = fields.url
            if url != endpoint.url:
                url = await self.checked_url(url, for_all_requests=endpoint.for_all_requests)
            await self._stored.update(
                endpoint.id,
                url=url,
                description=fields.description,
                event_types=fields.event_types,
            )

    def check_pause(self, endpoint: Endpoint) -> None:
        """Check that an endpoint can be paused.

        Raises:
            Rejected: The endpoint is disabled.
        """
        if endpoint.state is EndpointState.DISABLED:
            with self._logged(Event.WEBHOOK_PAUSE, endpoint.id):
                raise Rejected("The endpoint is disabled, so there is nothing to pause.")

    async def pause(self, endpoint: Endpoint) -> None:
        """Pause an endpoint. A repeat changes nothing.

        Raises:
            Rejected: The endpoint is disabled.
        """
        self.check_pause(endpoint)
        if endpoint.state is EndpointState.PAUSED:
            return
        with self._logged(Event.WEBHOOK_PAUSE, endpoint.id):
            await self._stored.set_state(endpoint.id, EndpointState.PAUSED, _now())

    async def resume(self, endpoint: Endpoint) -> None:
        """Send to a paused or disabled endpoint again. A repeat changes nothing."""
        if endpoint.state is EndpointState.ENABLED:
            return
        with self._logged(Event.WEBHOOK_RESUME, endpoint.id):
            await self._stored.set_state(endpoint.id, EndpointState.ENABLED, _now())

    async def rotate_secret(self, endpoint: Endpoint) -> tuple[Endpoint, str]:
        """Make a new secret. Return the endpoint with the secret, which is never shown again."""
        secret, overlap_until = new_secret(), _now() + OVERLAP
        with self._logged(Event.WEBHOOK_ROTATE_SECRET, endpoint.id):
            await self._stored.rotate_secret(endpoint.id, self._sealed(secret), overlap_until)
        return await self.find(endpoint.id), secret

    async def delete(self, endpoint: Endpoint) -> None:
        with self._logged(Event.WEBHOOK_DELETE, endpoint.id):
            await self._stored.delete(endpoint.id)

    async def ping(self, endpoint: Endpoint) -> str:
        """Send a test event. Return the id of its delivery.

        Raises:
            Rejected: The endpoint is paused or disabled.
        """
        with self._logged(Event.WEBHOOK_PING, endpoint.id):
            return await self._stored.ping(endpoint.id, _now())

    async def send_again(self, endpoint: Endpoint, delivery_id: str) -> None:
        """Send a delivery again, with the same body and id.

        Raises:
            NotFound: The endpoint has no such delivery.
            Rejected: The endpoint is paused or disabled.
        """
        if not _ID.fullmatch(delivery_id):
            raise NotFound("There is no such delivery.")
        with self._logged(Event.WEBHOOK_RESEND, endpoint.id):
            await self._stored.send_again(endpoint.id, delivery_id, _now())

    async def deliveries(self, endpoint: Endpoint) -> Sequence[Delivery]:
        return await self._stored.deliveries(endpoint.id)

    async def checked_url(self, url: str, *, for_all_requests: bool) -> str:
        """Return the URL in ASCII, as it is called, so that none of its characters can mislead.

        Raises:
            BadInput: Webhooks may not be sent to this URL.
        """
        self._check_role(for_all_requests=for_all_requests)
        rules = address_rules(self._web.settings, for_all_requests=for_all_requests)
        try:
            checked = str((await check_url(url.strip(), rules)).url)
        except BadUrl as error:
            raise _bad_url(str(error)) from None
        if len(checked) > MAX_URL:
            raise _bad_url(f"must have at most {MAX_URL} characters")
        return checked

    def _check_role(self, *, for_all_requests: bool) -> None:
        if for_all_requests and not self._partner.is_operator:
            self._web.security_log.write(self._http_request, Event.ACCESS, Outcome.FAILURE)
            raise HTTPException(403, "Only an operator may get the events of all requests.")

    def _id_of(self, form_id: str) -> str:
        """Return the id of the endpoint that this form of this partner registers."""
        identity = self._partner.identity
        return str(uuid5(_FORMS, json.dumps([identity.issuer, identity.subject, form_id])))

    def _sealed(self, secret: str) -> str:
        return seal(secret, self._web.settings.signing_keys)

    def _logged(self, event: Event, endpoint_id: str) -> AbstractContextManager[None]:
        log = self._web.security_log
        return log.outcome_of(self._http_request, event, endpoint_id=endpoint_id)


def _bad_url(message: str) -> BadInput:
    return BadInput([FieldError(field="url", message=message)])


def _now() -> datetime:
    return datetime.now(UTC)
