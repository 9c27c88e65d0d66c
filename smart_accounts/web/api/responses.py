"""Which answers each operation of the API has, for its description."""

from http import HTTPStatus
from typing import Any

from smart_accounts.web.http.problem import MEDIA_TYPE
from smart_accounts.web.rendering import RETRY_AFTER_SECONDS

Answers = dict[int | str, dict[str, Any]]


def _problem(
    status: int, description: str, headers: dict[str, str] | None = None, **more: Any
) -> dict[str, Any]:
    title = HTTPStatus(status).phrase
    example = {"type": "about:blank", "title": title, "status": status, **more}
    schema = {"$ref": "#/components/schemas/Problem"}
    answer: dict[str, Any] = {
        "description": description,
        "content": {MEDIA_TYPE: {"schema": schema, "example": example}},
    }
    if headers:
        answer["headers"] = {
            name: {"description": what, "required": True, "schema": {"type": "string"}}
            for name, what in headers.items()
        }
    return answer


_CHALLENGE = {"WWW-Authenticate": "`Bearer`, and what is wrong with the token."}

_ALL: Answers = {
    401: _problem(
        401,
        "There is no bearer token, or it is not genuine, not for this service, or over.",
        _CHALLENGE,
        detail="The token is refused: expired token, exp.",
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
        "One error for each field or parameter that breaks a rule; nothing was done.",
        detail="Nothing was done: see the errors.",
        errors=[{"field": "customer_email", "message": "is required"}],
    ),
    500: _problem(
        500,
        "Our fault.",
        detail="It is our fault and is recorded.",
    ),
    503: _problem(
        503,
        "Temporal, the database or the identity provider does not answer.",
        {"Retry-After": f"Seconds to wait: {RETRY_AFTER_SECONDS}."},
        detail="Temporal does not answer; nothing was lost, try again.",
    ),
}
_SENT: Answers = {
    429: _problem(
        429,
        "This address has sent too much within a minute.",
        {"Retry-After": "Seconds to wait."},
    )
}
_BODY: Answers = {
    400: _problem(400, "The body is not JSON.", detail="The body is not valid JSON."),
    415: _problem(
        415,
        "The body is not `application/json`.",
        detail="The body must be application/json.",
    ),
}
_ONE: Answers = {
    404: _problem(
        404,
        "The caller has no such request.",
        detail="There is no such request.",
    )
}
_REFUSED: Answers = {
    409: _problem(
        409,
        "The service understood and says no; `detail` says why.",
        detail="Too late: the request is active already.",
    )
}
_TAKEN: Answers = {
    409: _problem(
        409,
        "The domain has an account or an open request, or there are too many requests.",
        detail="The domain already has an active Smart Account.",
    )
}
_CREATED: Answers = {
    201: {
        "description": "The request; the same one when it is sent again under the same key.",
        "headers": {
            "Location": {
                "description": "Where this very request is shown.",
                "required": True,
                "schema": {"type": "string", "format": "uri-reference"},
            }
        },
    }
}

CREATE = _ALL | _SENT | _BODY | _TAKEN | _CREATED
LIST = _ALL
SHOW = _ALL | _ONE
RESEND = _ALL | _SENT | _ONE | _REFUSED
ACT = _ALL | _SENT | _BODY | _ONE | _REFUSED
