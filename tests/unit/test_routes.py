"""Every route. Browsers, clients and links in emails depend on them."""

from fastapi.routing import APIRoute

from smart_accounts.web import activation, app, bounces, codec_server
from smart_accounts.web.api import openapi
from smart_accounts.web.api.app import PATH, ROUTERS
from smart_accounts.web.auth import company, session_pages, sign_in
from smart_accounts.web.requests import actions, create, detail, listing
from smart_accounts.web.webhooks import detail as webhook_detail
from smart_accounts.web.webhooks import routes as webhook_routes

ROUTES = [
    "GET / GET /healthz GET /readyz GET /openapi.json GET /docs",
    "GET /sign-in GET /sign-in/callback GET /sign-in/company POST /sign-in/company POST /sign-out",
    "GET /sessions POST /sessions/{session_id}/end POST /sessions/end-all",
    "GET /requests GET /requests.csv GET /requests/new POST /requests/new",
    "POST /requests/review POST /requests GET /requests/review/{draft_id}",
    "GET /requests/{workflow_id} GET /requests/{workflow_id}/complete",
    "GET /requests/{workflow_id}/events POST /requests/{workflow_id}/resend",
    "POST /requests/{workflow_id}/replace-approver POST /requests/{workflow_id}/withdraw",
    "POST /requests/{workflow_id}/close",
    "GET /activate/{token} GET /activate/{token}/decline",
    "GET /activate/{token}/ POST /activate/{token}/",
    "POST /activate/{token} POST /activate/{token}/decline POST /hooks/bounces",
    "POST /api/v1/requests GET /api/v1/requests GET /api/v1/requests/{workflow_id}",
    "POST /api/v1/requests/{workflow_id}/resend",
    "POST /api/v1/requests/{workflow_id}/replace-approver",
    "POST /api/v1/requests/{workflow_id}/withdraw",
    "POST /requests/{workflow_id}/approve POST /requests/{workflow_id}/reject",
    "POST /api/v1/requests/{workflow_id}/approve POST /api/v1/requests/{workflow_id}/reject",
    "POST /api/v1/requests/{workflow_id}/close",
    "GET /webhooks GET /webhooks/new POST /webhooks GET /webhooks/{endpoint_id}",
    "GET /webhooks/{endpoint_id}/change POST /webhooks/{endpoint_id}/change",
    "POST /webhooks/{endpoint_id}/rotate-secret POST /webhooks/{endpoint_id}/ping",
    "POST /webhooks/{endpoint_id}/pause POST /webhooks/{endpoint_id}/resume",
    "POST /webhooks/{endpoint_id}/delete",
    "POST /webhooks/{endpoint_id}/deliveries/{delivery_id}/resend",
    "POST /api/v1/webhooks GET /api/v1/webhooks GET /api/v1/webhooks/{webhook_id}",
    "PATCH /api/v1/webhooks/{webhook_id} DELETE /api/v1/webhooks/{webhook_id}",
    "POST /api/v1/webhooks/{webhook_id}/rotate-secret POST /api/v1/webhooks/{webhook_id}/ping",
    "GET /api/v1/webhooks/{webhook_id}/deliveries",
    "POST /api/v1/webhooks/{webhook_id}/deliveries/{delivery_id}/resend",
    "POST /codec/encode POST /codec/decode",
]


def test_routes() -> None:
    parts = [
        app,
        openapi,
        sign_in,
        company,
        session_pages,
        create,
        listing,
        detail,
        actions,
        webhook_routes,
        webhook_detail,
        activation,
        bounces,
    ]
    found = [("", route) for part in parts for route in part.router.routes]
    found += [(PATH, route) for router in ROUTERS for route in router.routes]
    found += [(codec_server.PATH, route) for route in codec_server.router.routes]
    served = {
        f"{method} {prefix}{route.path}"
        for prefix, route in found
        if isinstance(route, APIRoute)
        for method in (route.methods or set()) - {"HEAD"}
    }
    words = " ".join(ROUTES).split()
    assert served == {f"{method} {path}" for method, path in batched(words)}


def batched(words: list[str]) -> list[tuple[str, str]]:
    return list(zip(words[::2], words[1::2], strict=True))
