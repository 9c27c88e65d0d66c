"""Values that every template of the request pages needs."""

from collections.abc import Callable
from datetime import UTC, datetime
from functools import partial
from typing import Annotated

from fastapi import Depends
from fastapi.responses import HTMLResponse

from smart_accounts.store.records import StoredRequest
from smart_accounts.web.dependencies import Page
from smart_accounts.web.requests.labels import (
    ACTION_LABELS,
    EMAIL_LABELS,
    ROLE_LABELS,
    STATUS_LABELS,
    STATUS_TONES,
    delivery_of,
)

REFRESH_SECONDS = 2


async def _request_page(page: Page) -> Callable[..., HTMLResponse]:
    return partial(
        page,
        now=datetime.now(UTC),
        status_labels=STATUS_LABELS,
        status_tones=STATUS_TONES,
        email_labels=EMAIL_LABELS,
        delivery_of=delivery_of,
        role_labels=ROLE_LABELS,
        action_labels=ACTION_LABELS,
    )


RequestPage = Annotated[Callable[..., HTMLResponse], Depends(_request_page)]


def starting_page(page: Callable[..., HTMLResponse], request: StoredRequest) -> HTMLResponse:
    """Return the page of a request that no worker has checked yet. It reloads by itself."""
    # With another URL, the browser's Back would need one more step.
    return page("requests/starting", 200, {"Refresh": str(REFRESH_SECONDS)}, request=request)


def request_path(request: StoredRequest) -> str:
    return f"/requests/{request.workflow_id}?run={request.id}"
