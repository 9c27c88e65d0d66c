"""The responses of each API operation, for the API description."""

from http import HTTPStatus
from typing import Any

from smart_accounts.store.webhooks import NO_SUCH_ENDPOINT
from smart_accounts.web.http.problem import MEDIA_TYPE
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS

Responses = dict[int | str, dict[str, Any]]


def _problem(
    status: int, description: str, headers: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, **more}
    schema = {"$ref": "#/components/schemas/Problem"}
    response: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if headers:
        response["headers"] = {
            name: {"description": what, "required": True, "schema": {"type": "string"}}
            for name, what in headers.items()
        }
    return response


_CHALLENGE = {"WWW-Authenticate": "`Bearer`, with the error of the token."}

_ALL: Responses = {
    401: _problem(
        401,
        "The bearer token is missing, forged, expired or not for this service.",
        _CHALLENGE,
        detail="The token is rejected: expired token, exp.",
    ),
    403: _problem(
        403,
        "The token lacks the scope `smart-accounts`, or a verified email address, a name or a"
        " company.",
        _CHALLENGE,
        detail="The token lacks the scope smart-accounts.",
    ),
    413: _problem(
        413,
        "The body is longer than 16 KB.",
    ),
    422: _problem(
        422,
        "A field or parameter breaks a rule. `errors` has one entry per error. Nothing was done.",
        detail="Nothing was done. See the errors.",
        errors=[{"field": "customer_email", "message": "is required"}],
    ),
    500: _problem(
        500,
        "A fault in the service.",
        detail="This is a fault in the service. It has been recorded.",
    ),
    503: _problem(
        503,
        "Temporal, the database or the identity provider is down.",
        {"Retry-After": f"Seconds to wait: {RETRY_AFTER_SECONDS}."},
        detail="The database does not respond.",
    ),
}
_RATE_LIMITED: Responses = {
    429: _problem(
        429,
        "This address has sent too many requests within a minute.",
        {"Retry-After": "Seconds to wait."},
    )
}
BAD_BODY: Responses = {
    400: _problem(400, "The body is not JSON.", detail="The body is not valid JSON."),
    415: _problem(
        415,
        "The body is not `application/json`.",
        detail="The body must be application/json.",
    ),
}
_NOT_FOUND: Responses = {
    404: _problem(
        404,
        "The caller has no such request.",
        detail="There is no such request.",
    )
}
_REJECTED: Responses = {
    409: _problem(
        409,
        "The service rejects the action. `detail` says why.",
        detail="Too late: the request is already active.",
    )
}
_DOMAIN_TAKEN: Responses = {
    409: _problem(
        409,
        "The domain has an account or an open request, or a limit is reached.",
        detail="The domain already has an active Smart Account.",
    )
}
_OPERATORS_ONLY: Responses = {
    403: _problem(
        403,
        "Only an operator may do this, and nobody may review a request that they made. Or the token"
        " lacks what every call needs.",
        detail="Only an operator who did not make the request may review it.",
    )
}
_NO_SUCH_WEBHOOK: Responses = {
    404: _problem(
        404,
        "The caller has no such endpoint, or the endpoint has no such delivery.",
        detail=NO_SUCH_ENDPOINT,
    )
}
_TOO_MANY_WEBHOOKS: Responses = {
    409: _problem(
        409,
        "The caller has too many endpoints.",
        detail="You have 10 endpoints, which is the limit.",
    )
}
_NOT_ENABLED: Responses = {
    409: _problem(
        409,
        "The endpoint is paused or disabled.",
        detail="The endpoint is paused. Enable it first.",
    )
}
_FOR_ALL: Responses = {
    403: _problem(
        403,
        "Only an operator may register an endpoint for the requests of all partners. Or the token"
        " lacks what every call needs.",
        detail="Only an operator may get the events of all requests.",
    )
}
_REGISTERED: Responses = {
    201: {
        "description": "The endpoint and its secret.",
        "headers": {
            "Location": {
                "description": "The path of this endpoint.",
                "required": True,
                "schema": {"type": "string", "format": "uri-reference"},
            }
        },
    }
}
_DONE: Responses = {200: {"description": "The action was done."}}
_CREATED: Responses = {
    201: {
        "description": "The request. Sending it again with the same key returns the same request.",
        "headers": {
            "Location": {
                "description": "The path of this request.",
                "required": True,
                "schema": {"type": "string", "format": "uri-reference"},
            }
        },
    }
}

CREATE = _ALL | _RATE_LIMITED | BAD_BODY | _DOMAIN_TAKEN | _CREATED
LIST = _ALL | {200: {"description": "One page of the list."}}
GET = _ALL | _NOT_FOUND | {200: {"description": "The request and its emails."}}
ACT_WITHOUT_BODY = _ALL | _RATE_LIMITED | _NOT_FOUND | _REJECTED | _DONE
ACT = ACT_WITHOUT_BODY | BAD_BODY
ACT_AS_OPERATOR = ACT_WITHOUT_BODY | _OPERATORS_ONLY

REGISTER = _ALL | _RATE_LIMITED | BAD_BODY | _FOR_ALL | _TOO_MANY_WEBHOOKS | _REGISTERED
LIST_WEBHOOKS = _ALL | {200: {"description": "The endpoints, oldest first."}}
GET_WEBHOOK = _ALL | _NO_SUCH_WEBHOOK
ACT_ON_WEBHOOK = GET_WEBHOOK | _RATE_LIMITED
CHANGE_WEBHOOK = ACT_ON_WEBHOOK | BAD_BODY | _NOT_ENABLED
DELETE_WEBHOOK = ACT_ON_WEBHOOK | {204: {"description": "The endpoint is deleted."}}
SEND_WEBHOOK = ACT_ON_WEBHOOK | _NOT_ENABLED | {202: {"description": "The message is on its way."}}
