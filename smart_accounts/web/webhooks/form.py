"""The form for an endpoint: what was typed, and the checked fields or the errors."""

import secrets
from collections.abc import Mapping
from dataclasses import dataclass

from pydantic import ValidationError

from smart_accounts.contract.field_errors import BadInput, FieldError, field_errors
from smart_accounts.contract.webhooks import SUBSCRIBABLE
from smart_accounts.store.webhook_records import Endpoint
from smart_accounts.web.webhooks.endpoints import EndpointFields

MAX_ID = 64
LABELS = {"url": "The URL", "description": "The description"}


@dataclass(frozen=True)
class EndpointForm:
    """The fields as they were typed. ``id`` is the form's, so that a repeat registers nothing."""

    id: str
    url: str = ""
    description: str = ""
    event_types: frozenset[str] = frozenset(SUBSCRIBABLE)
    for_all_requests: bool = False

    @classmethod
    def empty(cls) -> "EndpointForm":
        return cls(secrets.token_urlsafe(16))

    @classmethod
    def of(cls, sent: Mapping[str, str]) -> "EndpointForm":
        return cls(
            id=sent.get("form_id", "")[:MAX_ID],
            url=sent.get("url", ""),
            description=sent.get("description", ""),
            event_types=frozenset(each for each in SUBSCRIBABLE if each in sent),
            for_all_requests=sent.get("for_all_requests") == "yes",
        )

    @classmethod
    def of_endpoint(cls, endpoint: Endpoint) -> "EndpointForm":
        return cls("", endpoint.url, endpoint.description, frozenset(endpoint.event_types))

    def to_fields(self) -> EndpointFields:
        """Return the checked fields.

        Raises:
            BadInput: the form has errors.
        """
        try:
            return EndpointFields(
                url=self.url,
                description=self.description,
                event_types=tuple(each for each in SUBSCRIBABLE if each in self.event_types),
            )
        except ValidationError as error:
            raise BadInput(field_errors(error)) from None


def sentences(error: BadInput) -> dict[str, str]:
    """Return one sentence for each field that is wrong."""
    texts: dict[str, str] = {}
    for each in error.errors:
        texts.setdefault(each.field, _sentence(each))
    return texts


def _sentence(error: FieldError) -> str:
    if error.field == "event_types":  # the form can only send too few
        return "Choose at least one event."
    if error.message.endswith("."):
        return error.message
    return f"{LABELS[error.field]} {error.message}."
