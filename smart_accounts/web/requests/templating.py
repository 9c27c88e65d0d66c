"""What the partner's pages have in common: who looks, the forms' tokens, and whose requests."""

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from fastapi import HTTPException, Request, Response

from smart_accounts.errors import NotFound
from smart_accounts.store.records import StoredRequest
from smart_accounts.store.store import AccountStore
from smart_accounts.temporal.client import RequestClient, RunningRequest
from smart_accounts.web.auth.session import Partner, check_csrf, header_of
from smart_accounts.web.http.forms import read_form
from smart_accounts.web.lookup import find_request
from smart_accounts.web.rendering import Pages
from smart_accounts.web.requests.form import MAX_REQUEST_FORM
from smart_accounts.web.requests.labels import DELIVERY, EMAIL_LABELS, STATUSES, TONES, shown_status


class PartnerPages:
    """Pages for whoever is signed in; each form carries the token that it is checked for."""

    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.root = pages.root

    def __call__(
        self,
        asked: Request,
        name: str,
        status: int = 200,
        headers: Mapping[str, str] | None = None,
        **shown: Any,
    ) -> Response:
        return self._pages(
            f"requests/{name}",
            status,
            headers,
            now=datetime.now(UTC),
            **header_of(asked),
            statuses=STATUSES,
            tones=TONES,
            mails=EMAIL_LABELS,
            delivery=DELIVERY,
            shown_status=shown_status,
            **shown,
        )

    async def read(self, request: Request) -> dict[str, str]:
        """The form that was sent, once seen that it is one of ours."""
        form = await read_form(request, MAX_REQUEST_FORM)
        check_csrf(request, form)
        return form

    def path_of(self, workflow_id: str, run_id: str) -> str:
        return f"{self.root}/requests/{workflow_id}?run={run_id}"


class OwnRequests:
    """The requests that a partner may see: their own, an operator everybody's."""

    def __init__(self, store: AccountStore, client: RequestClient) -> None:
        self._store = store
        self._client = client

    async def find(
        self, partner: Partner, workflow_id: str, run_id: str | None
    ) -> StoredRequest | RunningRequest:
        """
        Raises:
            HTTPException: 404, there is none or it is somebody else's, which looks the same.
        """
        try:
            return await find_request(self._store, self._client, partner, workflow_id, run_id)
        except NotFound:
            raise HTTPException(404) from None

    async def stored(self, partner: Partner, workflow_id: str, run_id: str | None) -> StoredRequest:
        """The request, if the store has it.

        Raises:
            HTTPException: 404, as above.
        """
        found = await self.find(partner, workflow_id, run_id)
        if isinstance(found, RunningRequest):
            raise HTTPException(404)
        return found
